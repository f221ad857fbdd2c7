"""The experiment's summary, on made-up seeds whose results are known."""

import copy
from typing import Any

import pytest

from tsdi.organism import CATEGORIES
from tsdi.organism.train import Recipe
from tsdi.study.organism_tables import markdown, tables
from tsdi.study.organisms import MAIN_NAME, summarise

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
    assert found["chosen"]["reference + c"] == ["c=1"]  # .42 is more than .18 and .095
    assert found["hypervolume"]["reference + c"]["value"] == pytest.approx(0.42)
    assert found["hypervolume"]["grid"]["value"] == pytest.approx(0.45)
    assert found["debiased_minus"]["grid"]["seeds"] == [0.286, 0.254]
    three = summary["hypervolume"]["correct"]["3"]["hypervolume"]["aligned + c"]["value"]
    assert three == pytest.approx(0.5 * 0.9 + 0.4 * 0.5 + 0.1 * 0.1)


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


def test_doses_rise_and_compare_equal_settings(summary: dict[str, Any]) -> None:
    assert [row["annotators"] for row in summary["dose"]] == [0.0, 0.3, 0.5]
    assert summary["dose"][0]["lookalike"]["change"]["value"] == pytest.approx(0.5)


def test_rank_correlation_is_within_seeds(summary: dict[str, Any]) -> None:
    points = summary["explained"]["points"]
    assert len(points) == 2 * sum(len(a.iterations) for a in Recipe().grid)
    assert summary["explained"]["rank_correlation"]["n"] == 0  # all gains of a seed are equal


def test_every_table_has_its_interval_and_reads_as_markdown(summary: dict[str, Any]) -> None:
    text = markdown(summary)
    for title, table in tables(summary).items():
        assert f"### {title}" in text
        assert all(len(row) == len(table.header) for row in table.rows)
    assert "+0.000 [-0.254, +0.254]" in text  # safety, debiased minus aligned, two seeds
