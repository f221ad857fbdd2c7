"""``tsdi suites`` as it stands in a terminal."""

from tests.cli.conftest import tsdi


class TestTheList:
    def test_every_column_fits_a_terminal_of_80_characters(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        shown = tsdi("suites").output.splitlines()
        heads = [line for line in shown if line.startswith("┃")]
        cells = [cell.strip() for line in heads for cell in line.strip("┃").split("┃")]
        assert cells == ["suite", "prompts", "cat.", "licence", "attack", "source"]
        assert max(map(len, shown)) <= 80
