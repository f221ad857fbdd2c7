import json

import numpy as np
import pytest

from tsdi.errors import UsageError
from tsdi.report import figures as plots
from tsdi.report.figures import Dose, Line, Point, Series
from tsdi.report.theme import ARM_COLOURS, colours, plain, show, token_text
from tsdi.stats.interval import Estimate
from tsdi.stats.proportions import wilson

EVIL = "</script><script>alert(1)</script><b>bold</b> &lt; %{x}"
SAFE = "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;b&gt;bold&lt;/b&gt; &amp;lt; %{x}"
NOTHING = Estimate(None, 0.0, 1.0, 0)


def point(x, y, label="p"):
    return Point(label, wilson(x, 100), wilson(y, 100))


def texts(figure):
    """All strings of a figure that plotly shows."""

    def walk(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from (text for one in value.values() for text in walk(one))
        elif isinstance(value, list):
            yield from (text for one in value for text in walk(one))

    return list(walk(json.loads(figure.to_json())))


def test_a_trade_off_shows_the_points_with_both_intervals():
    series = [
        Series("aligned + c", "null", [point(n, 100 - n) for n in range(0, 101, 10)]),
        Series("aligned", "model", [point(60, 95)]),
        Series("debiased", "debiased", [point(90, 94), point(80, 97)]),
    ]
    figure = plots.trade_off(series, "correct", "safe")
    curve, model, debiased = figure.data
    assert curve.mode == "lines"
    assert curve.error_x.array is None
    assert len(curve.x) == 11
    assert "lines" not in model.mode
    assert (debiased.x, debiased.y) == ((0.9, 0.8), (0.94, 0.97))
    low, high = (np.subtract(debiased.y, debiased.error_y.arrayminus), debiased.error_y.array)
    assert low == pytest.approx([wilson(94, 100).low, wilson(97, 100).low])
    assert np.add(debiased.y, high) == pytest.approx([wilson(94, 100).high, wilson(97, 100).high])
    assert debiased.hovertext[0].startswith("<b>p</b><br>correct:<br>90.0 % [")
    assert curve.line.color == model.marker.color == ARM_COLOURS["aligned"]
    assert debiased.marker.color == ARM_COLOURS["debiased"]


def test_axes_show_the_markers_whole_and_no_impossible_shares():
    series = [
        Series("null", "null", [point(0, 0), point(100, 100)]),
        Series("grid", "grid", [point(70, 60), point(100, 80)]),
    ]
    figure = plots.trade_off(series, "x", "y")
    low, high = figure.layout.xaxis.range
    assert 0.4 < low < wilson(70, 100).low
    assert 1.0 < high <= 1.03
    assert figure.layout.xaxis.tickformat == ",.0%"


def test_points_without_a_value_are_left_out():
    figure = plots.trade_off(
        [Series("a", "grid", [Point("p", NOTHING, NOTHING), point(1, 2)])], "", ""
    )
    assert figure.data[0].x == (0.01,)


def test_an_infinite_interval_has_no_whisker():
    open_end = Estimate(0.5, float("-inf"), float("inf"), 1)
    figure = plots.trade_off([Series("a", "grid", [Point("p", open_end, open_end)])], "x", "y")
    assert figure.data[0].error_y.array == (0.0,)
    assert "x:<br>50.0 %, n = 1" in figure.data[0].hovertext[0]


def test_category_bars_show_every_share_and_mark_the_lost_ones():
    titles = {"O2": "O2 Two", "O3": "O3 Three", "O9": "O9 Nine"}
    arms = {
        "reference": {"O2": wilson(1, 10), "O3": wilson(0, 10), "O9": NOTHING},
        "aligned": {"O2": wilson(10, 10), "O3": wilson(9, 10), "O9": wilson(4, 10)},
    }
    figure = plots.category_bars(arms, titles, {"O3"})
    assert [bar.name for bar in figure.data] == ["reference", "aligned"]
    assert figure.data[0].x == (0.1, 0.0)
    assert figure.data[1].x == (1.0, 0.9, 0.4)
    places = figure.data[1].y
    assert all(n < place < n + 1 for n, place in enumerate(places))
    red = [text.text for text in figure.layout.annotations if text.font.color == "#b42318"]
    assert red == ["O3 Three"]
    assert [text.text for text in figure.layout.annotations] == list(titles.values())


def test_token_shifts_rank_by_the_first_steps_and_keep_both_ends():
    shifts = np.zeros((3, 6))
    shifts[0, 4], shifts[:, 1], shifts[2, 2], shifts[:, 5] = 3.0, 1.5, 4.0, -2.0
    shifts[0, 3] = -1.0
    figure = plots.token_shifts(shifts, shifts + 9, list("abcdef"), 2)
    (heat,) = figure.data
    # Weighted sums: e 3, b 1.5 * 11/6 = 2.75, c 4/3, d -1, f -2 * 11/6.
    assert figure.layout.yaxis.ticktext == ("e", "b", "d", "f")
    assert heat.z == ([3, 0, 0], [1.5, 1.5, 1.5], [-1, 0, 0], [-2, -2, -2])
    assert (heat.zmin, heat.zmax) == (-3.0, 3.0)
    assert heat.hovertext[0][0] == "e, step 0: +3.00 ± 12.00"


def test_token_shifts_of_a_tiny_vocabulary_show_each_token_once():
    figure = plots.token_shifts([[1.0, -1.0, 0.0]], [[0.0] * 3], ["same", "same", ""], 5)
    assert figure.layout.yaxis.ticktext == ("same", "''", "same")


def test_token_shifts_that_do_not_belong_together():
    with pytest.raises(UsageError, match=r"\(1, 3\), errors \(1, 3\) and 2 tokens"):
        plots.token_shifts([[1.0, 2.0, 3.0]], [[0.0] * 3], ["a", "b"], 1)


def test_log_odds_keep_every_number_with_its_kind():
    samples = {"aligned": {"random": [1.0, 2.0], "harmful": [5.0]}, "debiased": {"random": [-1.0]}}
    figure = plots.log_odds(samples)
    aligned, debiased = figure.data
    assert (aligned.x, aligned.y) == (("random", "random", "harmful"), (1.0, 2.0, 5.0))
    assert debiased.y == (-1.0,)
    assert "refusing = complying" in texts(figure)


def test_lines_show_the_mean_and_every_seed():
    doses = [Dose(0.0, wilson(1, 10), [0.05, 0.15]), Dose(0.5, wilson(4, 10), [0.4])]
    figure = plots.lines([Line("debiased", doses), Line("other", doses[:1])], "dose", "share")
    seeds, line = figure.data[:2]
    assert (seeds.x, seeds.y) == ((0.0, 0.0, 0.5), (0.05, 0.15, 0.4))
    assert (line.x, line.y) == ((0.0, 0.5), (0.1, 0.4))
    assert seeds.marker.color == line.line.color == ARM_COLOURS["debiased"]


def test_nothing_to_plot_is_said():
    empty = [Series("a", "model", []), Series("b", "null", [Point("p", NOTHING, NOTHING)])]
    for call in (
        lambda: plots.trade_off(empty, "", ""),
        lambda: plots.trade_off([], "", ""),
        lambda: plots.lines([Line("a", [])], "", ""),
        lambda: plots.category_bars({}, {"O1": "O1"}),
        lambda: plots.log_odds({"a": {"random": []}}),
        lambda: plots.token_shifts([[1.0]], [[1.0]], ["a"], 0),
    ):
        with pytest.raises(UsageError, match="nothing to plot"):
            call()


def test_texts_from_outside_are_no_markup():
    kind = {EVIL: [1.0, 2.0]}
    figures = [
        plots.trade_off([Series(EVIL, "model", [point(1, 2, EVIL)])], EVIL, EVIL),
        plots.lines([Line(EVIL, [Dose(0, wilson(1, 2), [0.5])])], EVIL, EVIL),
        plots.category_bars({EVIL: {"O1": wilson(1, 2)}}, {"O1": EVIL}),
        plots.token_shifts([[1.0, 0.0]], [[0.0, 0.0]], [EVIL, "<b>"], 1),
        plots.log_odds({EVIL: kind}),
    ]
    for figure in figures:
        for text in texts(figure):
            bare = text.replace("<b>", "", 1).replace("</b>", "", 1).replace("<br>", "")
            assert "<" not in bare, text
    assert SAFE in texts(figures[0])


def test_text_and_tokens_are_shown_as_they_are():
    assert plain(EVIL) == SAFE
    assert plain("a\nb\x00\u202ec") == r"a\nb\x00\u202ec"
    assert token_text("sorry") == "sorry"
    assert token_text(" no") == "' no'"
    assert token_text("\n") == r"'\n'"
    assert len(token_text("x" * 99)) == 24


def test_figures_in_words():
    assert show(Estimate(0.5, 0.25, 0.75, 8), percent=True) == "50.0 % [25.0, 75.0], n = 8"
    assert show(Estimate(-1.5, -2.0, -1.0, 8), percent=False) == "-1.50 [-2.00, -1.00], n = 8"
    assert show(NOTHING, percent=True) == "no value, n = 0"


def test_an_arm_has_one_colour_whatever_stands_beside_it():
    first = colours(["debiased", "reference", "merged", "aligned (grid)"])
    other = colours(["planted", "aligned + c", "debiased"])
    assert first["debiased"] == other["debiased"]
    assert first["aligned (grid)"] == other["aligned + c"] == ARM_COLOURS["aligned"]
    assert len(set(first.values())) == 4
