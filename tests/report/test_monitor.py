import json

import pytest

from tests.training.measurements import measurement
from tsdi.errors import UsageError
from tsdi.report.monitor import monitor_figure, write_monitor_report
from tsdi.training.monitor_log import MonitorSettings

SETTINGS = MonitorSettings(shift_limit=1.5, compliance_floor=0.25)
EVIL = "</script><b>safety</b>"


def run(*shifts: float, alarm: bool = False):
    return [
        measurement(
            step=25 * number,
            refusal_shift=shift,
            refusal_shift_error=0.1,
            compliance=0.8 - shift / 4,
            refused=0.2 + shift / 4,
            alarm=alarm and shift > 1.5,
        )
        for number, shift in enumerate(shifts)
    ]


def test_the_shift_is_above_and_compliance_below_over_the_same_steps():
    above, below = monitor_figure({"safety": run(0, 1, 2)}, SETTINGS).data
    assert list(above.x) == list(below.x) == [0, 25, 50]
    assert list(above.y) == [0, 1, 2]
    assert list(below.y) == pytest.approx([0.8, 0.55, 0.3])
    assert list(above.error_y.array) == pytest.approx([0.236] * 3)
    assert (above.yaxis, below.yaxis) == ("y", "y2")


def test_the_limits_are_thin_lines_that_of_compliance_against_its_value_at_step_0():
    figure = monitor_figure({"safety": run(0, 1, 2)}, SETTINGS)
    assert [(line.yref, line.y0) for line in figure.layout.shapes] == [
        ("y", 1.5),
        ("y2", pytest.approx(0.2)),
    ]
    assert all(line.line.width == 1 for line in figure.layout.shapes)


def test_runs_differ_in_more_than_colour():
    figure = monitor_figure({f"beta{number}": run(0, number) for number in range(4)}, SETTINGS)
    above = [trace for trace in figure.data if trace.yaxis == "y"]
    for look in ("line.dash", "marker.symbol", "line.color"):
        assert len({trace[look] for trace in above}) == 4
    assert figure.layout.showlegend


def test_nothing_measured_is_an_error():
    with pytest.raises(UsageError, match="nothing"):
        monitor_figure({"safety": []}, SETTINGS)


def test_the_page_says_when_refusal_became_context_independent(tmp_path):
    page = tmp_path / "monitor.html"
    runs = {"calm": run(0, 1), EVIL: run(0, 2, 3, alarm=True)}
    write_monitor_report(page, runs, SETTINGS, {"command": "tsdi train"})
    text = page.read_text()
    assert "context-independent at step 25" in text
    assert text.count("context-independent at step") == 1
    assert EVIL not in text
    assert json.dumps("calm") in text
