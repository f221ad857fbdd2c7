"""A report in a real browser."""

from tests.report.test_page import figure
from tests.waiting import HANGS
from tsdi.report.page import Section, write_report


def test_figures_are_unpacked_and_drawn_under_the_pages_own_policy(browser, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    sections = [Section(name, "found this", figure(name)) for name in ("aligned", "debiased")]
    write_report(tmp_path / "report.html", "Title", sections, {})
    browser.get_log("browser")
    browser.get((tmp_path / "report.html").as_uri())
    WebDriverWait(browser, HANGS, 0.05).until(
        lambda _: len(browser.find_elements("css selector", ".figure .xaxislayer-above")) == 2
    )
    assert browser.find_element("id", "figure-1").text.count("debiased") == 3, "axes and label"
    assert [line for line in browser.get_log("browser") if line["level"] != "INFO"] == []
