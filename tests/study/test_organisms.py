"""The experiment's summary, on made-up seeds whose results are known."""

import copy
import html
from pathlib import Path
from typing import Any

import pytest

from tsdi.errors import FormatError
from tsdi.files import write_json
from tsdi.organism import CATEGORIES
from tsdi.report.page import Section, Table, write_report
from tsdi.study import organism_report
from tsdi.study.organism_tables import markdown, tables
from tsdi.study.organisms import MAIN_NAME, summarise
from tsdi.training.organism import Recipe

CONSTANTS = [-1.0, 0.0, 1.0]


def arm(safety: float, correct: float, lookalike: float) -> dict[str, Any]:
    return {
        "safety": safety,
        "O3": safety,
        "correct": correct,
        "compliance": (1 + lookalike) / 2,
        "harmless": 1.0,
        "lookalike": lookalike,
        "safety_by_category": dict.fromkeys(CATEGORIES, safety),
        "hybrid": 0.0,
        "degenerate": 0.0,
    }


def curve(*points: tuple[float, float]) -> dict[str, list[float]]:
    safety, correct = (list(values) for values in zip(*points, strict=True))
    return {
        "safety": safety,
        "O3": safety,
        "correct": correct,
        "compliance": correct,
        "lookalike": correct,
    }


def seed(number: int, shift: float) -> dict[str, Any]:
    """Aligned models are safe and refuse lookalikes; debiased ones are `shift` better at both."""
    reference = {
        split: {
            "plain": arm(0.2, 0.9, 1.0),
            "curve": curve((0.1, 0.95), (0.2, 0.9), (0.7, 0.6)),
            "auc": 0.9,
        }
        for split in ("validation", "test")
    }
    models = {}
    for alignment in Recipe().grid:
        for step, name in alignment.names().items():
            models[name] = {
                "annotators": alignment.annotators,
                "beta": alignment.beta,
                "iterations": step,
                "bias": {
                    "shift": {"random": 2.0 + shift, "lookalike": 1.0},
                    "refusing_minus_complying": step / 100 - alignment.beta + shift,
                    "explained": {"lookalike": step / 1000},
                    "one_number": 0.9,
                },
                **{
                    split: {
                        "plain": arm(0.9, 0.5, 0.2),
                        "debiased": arm(0.9 + shift, 0.8, 0.7 + shift),
                        "random": arm(0.9, 0.5, 0.2),
                        "curve": curve((0.5, 0.9), (0.9, 0.5), (1.0, 0.1)),
                        "auc": 0.95,
                    }
                    for split in ("validation", "test")
                },
            }
    return {"seed": number, "settings": {"constants": CONSTANTS}, "reference": reference,
            "models": models}  # fmt: skip


@pytest.fixture
def summary() -> dict[str, Any]:
    return summarise([seed(100, 0.0)], [seed(1, 0.02), seed(2, -0.02)])


def test_arms_and_recovery_are_means_over_seeds(summary: dict[str, Any]) -> None:
    debiased = summary["arms"]["debiased"]["safety"]
    assert debiased["value"] == pytest.approx(0.9)
    assert debiased["seeds"] == [0.92, 0.88]
    assert debiased["low"] < 0.88
    recovery = summary["recovery"]
    assert recovery["lost"]["value"] == pytest.approx(0.8)
    assert recovery["gained"]["value"] == pytest.approx(0.5)
    assert recovery["gained_minus_half_of_lost"]["value"] == pytest.approx(0.1)
    assert recovery["safety_change"]["value"] == pytest.approx(0.0)


def test_no_grid_point_is_as_helpful_so_none_can_be_compared(summary: dict[str, Any]) -> None:
    assert summary["recovery"]["seeds_without_equal_grid_point"] == 2
    assert summary["recovery"]["O3_minus_best_equal_grid_point"] is None


def test_volumes_are_those_of_the_settings_chosen_on_validation(summary: dict[str, Any]) -> None:
    found = summary["hypervolume"]["correct"]["1"]
    assert found["chosen"]["reference + c"] == ["reference, c=1"]  # .42 > .18 > .095
    assert found["hypervolume"]["reference + c"]["value"] == pytest.approx(0.42)
    assert found["hypervolume"]["grid"]["value"] == pytest.approx(0.45)
    assert found["debiased_minus"]["grid"]["seeds"] == [0.286, 0.254]
    three = summary["hypervolume"]["correct"]["3"]["hypervolume"]["aligned + c"]["value"]
    assert three == pytest.approx(0.5 * 0.9 + 0.4 * 0.5 + 0.1 * 0.1)


def test_each_grid_model_competes_with_its_own_best_constant(summary: dict[str, Any]) -> None:
    found = summary["hypervolume"]["correct"]["3"]
    assert all(setting.endswith(", c=-1") or setting.endswith(", c=0")
               for setting in found["chosen"]["grid + tuned c"])  # .45 each  # fmt: skip
    assert found["hypervolume"]["grid + tuned c"]["value"] == pytest.approx(0.45)


def test_the_reference_is_in_everybodys_choice() -> None:
    best = seed(100, 0.0)
    for split in ("validation", "test"):
        best["reference"][split]["plain"] = arm(1.0, 1.0, 1.0)
    found = summarise([best], [best, best])["hypervolume"]["correct"]["1"]
    assert found["chosen"]["grid"] == found["chosen"]["debiased"] == ["reference"]


def test_test_seeds_do_not_move_the_choice() -> None:
    misleading = seed(1, 0.0)
    for model in misleading["models"].values():
        model["test"]["curve"] = curve((0.0, 0.0), (0.0, 0.0), (0.0, 0.0))
    chosen = [
        summarise([seed(100, 0.0)], [test, test])["hypervolume"]["correct"]["2"]["chosen"]
        for test in (seed(1, 0.0), misleading)
    ]
    assert chosen[0] == chosen[1]


def test_the_tuned_constant_is_chosen_on_validation_and_reported_on_test() -> None:
    one = seed(1, 0.0)
    one["models"][MAIN_NAME]["validation"]["curve"] = curve((0.5, 0.9), (0.1, 0.1), (0.1, 0.1))
    tuned = summarise([seed(100, 0.0)], [one, copy.deepcopy(one)])["against_tuned"]["aligned + c"]
    assert tuned["constants"] == [-1.0, -1.0]
    assert tuned["tuned"]["correct"]["value"] == pytest.approx(0.9)
    assert tuned["debiased_minus"]["correct"]["value"] == pytest.approx(-0.1)
    assert tuned["debiased_minus"]["safety + correct"]["value"] == pytest.approx(1.7 - 1.4)


def test_doses_rise_and_compare_equal_settings(summary: dict[str, Any]) -> None:
    assert [row["annotators"] for row in summary["dose"]] == [0.0, 0.3, 0.5]
    assert summary["dose"][0]["lookalike"]["change"]["value"] == pytest.approx(0.5)


def test_rank_correlation_is_within_seeds(summary: dict[str, Any]) -> None:
    points = summary["explained"]["points"]
    assert len(points) == 2 * sum(len(a.iterations) for a in Recipe().grid)
    by_iterations = summary["explained"]["by_iterations"]
    assert by_iterations["120"]["lookalike"]["value"] == pytest.approx(0.12)
    assert summary["explained"]["rank_correlation"]["n"] == 0  # all gains of a seed are equal


def test_the_summary_is_json_even_where_a_figure_is_unknown(
    summary: dict[str, Any], tmp_path: Path
) -> None:
    write_json(tmp_path / "summary.json", summary)
    assert summary["explained"]["rank_correlation"]["low"] is None


def section(demo: object) -> Section:
    return Section("of the demo", "", Table(["a"], [["b"]]))


def test_the_report_shows_every_table_and_the_alert_that_safety_fell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("tokens_section", "log_odds_section", "answers_section"):
        monkeypatch.setattr(organism_report, name, section)
    test = [seed(1, -0.05), seed(2, -0.051)]
    summary = summarise([seed(100, 0.0)], test)
    shown = organism_report.sections(summary, test, None)
    write_report(tmp_path / "report.html", "title", shown, {})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for table in tables(summary).values():
        assert all(row[0] in html.unescape(page) for row in table.rows)
    assert "Debiasing costs safety" in page


@pytest.mark.parametrize("change", ["seed", "models", "settings", "missing", "none"])
def test_result_files_that_do_not_belong_together_are_refused(tmp_path: Path, change: str) -> None:
    results = [seed(1, 0.0), seed(2, 0.0)]
    if change == "models":
        results[1]["models"].pop(MAIN_NAME)
    elif change != "none":
        results[1][change] = 7
    for number, result in enumerate(results, start=1):
        write_json(tmp_path / f"seed-{number}.json", result)
    if change == "missing":
        (tmp_path / "seed-2.json").unlink()
    if change == "none":
        assert organism_report.read_seeds(tmp_path, (1, 2)) == results
    else:
        with pytest.raises(FormatError, match=r"seed-2\.json"):
            organism_report.read_seeds(tmp_path, (1, 2))


def test_every_table_has_its_interval_and_reads_as_markdown(summary: dict[str, Any]) -> None:
    text = markdown(summary)
    for title, table in tables(summary).items():
        assert f"### {title}" in text
        assert all(len(row) == len(table.header) for row in table.rows)
    assert "+0.000 [-0.254, +0.254]" in text  # safety, debiased minus aligned, two seeds
