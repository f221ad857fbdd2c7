import base64
import gzip
import hashlib
import re
from html.parser import HTMLParser

import pytest

from tsdi.errors import TsdiError, UsageError
from tsdi.report import figures as plots
from tsdi.report.figures import Point, Series
from tsdi.report.page import Alert, Example, Examples, Section, Table, write_report
from tsdi.stats.proportions import wilson

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ title }}"
PROVENANCE = {"Command": "tsdi demo --seed 0", "Seed": "0"}


class Page(HTMLParser):
    """What a browser makes of a page: tags with their attributes, scripts, and visible text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.text, self._open = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)
        elif "style" not in self._open:
            self.text += data

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.tags if name in attributes]


def figure(name="a"):
    return plots.trade_off(
        [Series(name, "model", [Point(name, wilson(1, 2), wilson(1, 2))])], name, name
    )


def written(path, *sections, title="Title"):
    write_report(path / "report.html", title, sections, PROVENANCE)
    return Page((path / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("number", "columns", "on_a_phone"),
    [
        (".10", 3, None),
        (".10", 4, "many"),
        ("0.100 [0.050, 0.150]", 3, None),
        ("0.100 [0.050, 0.150]", 4, "lines"),
        ("long words that can be broken", 6, "many"),
    ],
)
def test_what_is_too_wide_for_a_phone_stands_below_its_rows_title(
    tmp_path, number, columns, on_a_phone
):
    names = ["", *[f"<{place}>" for place in range(1, columns)]]
    table = Table(names, [["title", *[number] * (columns - 1)]])
    page = written(tmp_path, Section("Table", "lead", [table], "how"))
    (attributes,) = (found for tag, found in page.tags if tag == "table")
    assert attributes.get("class") == on_a_phone
    assert attributes.get("style") == (
        f"--numbers: {columns - 1}" if on_a_phone == "many" else None
    )
    assert page.attributes("data-title") == (names if on_a_phone == "lines" else [])


def test_everything_that_is_given_is_on_the_page(tmp_path):
    table = Table(["figure", "aligned"], [["correct", "32 %"], ["safe", "9 %"]], "a note", {1})
    examples = Examples([Example("a prompt", {"aligned": "sorry", "debiased": "sure"})])
    page = written(
        tmp_path,
        Section("First", "found this", [figure(), table, Alert("O3 lost")], "read it so"),
        Section("Second", "found that", figure("b")),
        Section("Third", "and answers", examples),
    )
    for text in ("First", "found this", "read it so", "32 %", "a note", "O3 lost", "a prompt"):
        assert text in page.text
    for text in ("Second", "found that", "sorry", "sure", "aligned", "tsdi demo --seed 0"):
        assert text in page.text
    assert {"section-1", "section-2", "section-3", "figure-0", "figure-1"} <= set(
        page.attributes("id")
    )
    assert page.attributes("class").count("alert") == 2, "the alert, and the one without scripts"
    assert page.attributes("class").count("marked") == 1
    assert '"text":"b"' in page.scripts[0]


def test_no_line_ends_within_an_interval(tmp_path):
    row = ["a name", "0.930 [0.910, 0.950]", "-0.03 [-0.05, +0.01]", "one [two, three]"]
    page = written(tmp_path, Section("First", "lead", Table(["a", "b", "c", "d"], [row])))
    assert "0.930\u00a0[0.910,\u00a00.950]" in page.text
    assert "-0.03\u00a0[-0.05,\u00a0+0.01]" in page.text
    assert "one [two, three]" in page.text


def test_the_page_loads_nothing(tmp_path):
    page = written(tmp_path, Section("First", "lead", figure()))
    assert not {"link", "iframe", "img", "object", "base"} & {tag for tag, _ in page.tags}
    assert not page.attributes("src")
    assert all(link.startswith("#") for link in page.attributes("href"))
    (policy,) = (p for p in page.attributes("content") if "default-src" in p)
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy


def test_only_its_script_and_the_plotly_that_it_unpacks_may_run(tmp_path):
    page = written(tmp_path, Section("First", "lead", figure()))
    (own,) = page.scripts
    packed = base64.b64decode(re.match(r'const PLOTLY = "([^"]*)"', own)[1])
    plotly = gzip.decompress(packed).decode()
    assert "plotly.js (cartesian - minified) v4.1.1" in plotly[:100]
    (policy,) = (p for p in page.attributes("content") if "default-src" in p)
    assert policy.count("sha256-") == 2
    for script in (own, plotly):
        sha = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{sha}'" in policy
    assert "unsafe-inline" not in re.search(r"script-src [^;]*", policy)[0]


def test_the_page_is_small_enough_to_be_sent(tmp_path):
    written(tmp_path, Section("First", "lead", figure()))
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_texts_from_outside_are_shown_and_not_run(tmp_path):
    page = written(
        tmp_path,
        Section(EVIL, EVIL, [Alert(EVIL), Table([EVIL], [[EVIL]], EVIL)], EVIL),
        Section("Answers", "", [Examples([Example(EVIL, {EVIL: EVIL})]), figure(EVIL)]),
        title=EVIL,
    )
    assert len(page.scripts) == 1
    assert "img" not in {tag for tag, _ in page.tags}
    assert page.text.count(EVIL) == 13, "title twice, two headings, contents, and the rest"
    assert "<script" not in page.scripts[0]
    assert "</script" not in page.scripts[0]


def test_half_a_surrogate_pair_and_control_characters_can_be_written(tmp_path):
    text = "half \ud800, null \x00, bell \x07, right to left \u202e"
    page = written(
        tmp_path, Section("First", text, [Examples([Example(text, {"a": text})]), figure(text)])
    )
    assert "right to left" in page.text


def test_a_page_without_figures_has_no_scripts(tmp_path):
    page = written(tmp_path, Section("First", "lead", Alert("text")))
    assert page.scripts == []


def test_the_same_report_is_the_same_bytes(tmp_path):
    pages = []
    for _ in range(2):
        written(tmp_path, Section("First", "lead", figure()))
        pages.append((tmp_path / "report.html").read_bytes())
    assert pages[0] == pages[1]
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_made_leaves_the_old_one(tmp_path):
    old = tmp_path / "report.html"
    old.write_text("old")
    with pytest.raises(UsageError, match="2 columns and a row of 1 cells"):
        written(tmp_path, Section("First", "lead", Table(["a", "b"], [["1"]])))
    with pytest.raises(UsageError, match="at least one section"):
        written(tmp_path)
    with pytest.raises(TsdiError, match="Cannot write"):
        written(tmp_path / "missing", Section("First", "lead", Alert("a")))
    assert old.read_text() == "old"


def test_readers_can_choose_where_examples_have_facets(tmp_path):
    plain = Examples([Example("a prompt", {"a": "sorry"})])
    page = written(tmp_path, Section("First", "lead", plain))
    assert not {"select", "input", "script"} & {tag for tag, _ in page.tags}
    made = [Example(f"prompt {n}", {"a": "x"}, facets={"kind": "odd" if n % 2 else "even"})
            for n in range(5)]  # fmt: skip
    page = written(tmp_path, Section("First", "lead", Examples(made)))
    assert "even (3)" in page.text
    assert "odd (2)" in page.text
    assert page.attributes("data-facets") == ['["even"]', '["odd"]'] * 2 + ['["even"]']
    (script,) = page.scripts
    sha = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (p for p in page.attributes("content") if "default-src" in p)
    assert f"script-src 'sha256-{sha}';" in policy
