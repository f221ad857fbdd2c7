from tests.engines import cases


def pytest_terminal_summary(terminalreporter):
    if cases.NOT_RUN:
        missing = ", ".join(cases.NOT_RUN)
        terminalreporter.write_line(f"Engines that are not installed, so NOT RUN: {missing}.")
