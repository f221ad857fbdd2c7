"""What cross-validation says of planted directions, of noise, and of categories it never saw."""

from dataclasses import replace
from statistics import mean

import pytest
import torch

from tsdi.condition import crossvalidation
from tsdi.condition.crossvalidation import crossvalidate, held_out
from tsdi.condition.discriminant import fit_direction
from tsdi.condition.prompts import HeadInputs
from tsdi.condition.tokens import HeadMap
from tsdi.errors import NumericalError
from tsdi.stats.interval import Estimate, interval_text

HIDDEN, TOKENS = 10, 60


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LINEAR = HeadMap(torch.arange(TOKENS), drawn(HIDDEN, TOKENS).float(), torch.zeros(TOKENS))


def known(apart=4.0, rows=120, of=lambda n: "AB"[n % 4 // 2]):
    """Harmful prompts of two categories, each apart along an axis of its own, and harmless ones."""
    inputs = drawn(rows, HIDDEN, seed=1)
    harmful = torch.arange(rows) % 2 == 0
    categories = [of(n) if n % 2 == 0 else "" for n in range(rows)]
    for n, name in enumerate(categories):
        inputs[n, 0] += apart * (name == "A")
        inputs[n, 1] += apart * (name == "B")
    odds = 0.5 * inputs[:, 0]
    return HeadInputs(inputs, harmful, odds, categories, [str(n) for n in range(rows)])


def validated(data, tokens=TOKENS):
    direction = fit_direction(data.inputs, data.harmful, data.groups)
    return crossvalidate(data, direction, LINEAR, tokens)


class TestPlanted:
    FOUND = validated(known())

    def test_it_tells_the_kinds_apart_better_than_the_log_odds(self):
        found = self.FOUND
        assert found.condition.value > 0.9
        assert found.log_odds.value < 0.8
        assert found.gain.value == pytest.approx(found.sparse.value - found.log_odds.value)
        case = found.told.case
        assert case.name == "condition"
        assert "A condition is worth it" in case.why
        assert interval_text(found.gain, signed=True) in case.why
        assert (found.harmful, found.harmless, found.tokens) == (60, 60, TOKENS)

    def test_labels_that_the_models_own_refusals_contradict_are_asked_about(self):
        assert "exchanged" not in self.FOUND.told.case.why
        data = known()
        swapped = replace(data, harmful=~data.harmful, log_odds=4 * data.log_odds)
        assert "Are the labels exchanged?" in held_out(swapped).case.why

    def test_the_scores_of_prompts_held_out_are_kept_by_kind(self):
        scores = self.FOUND.scores
        assert {kind: len(found) for kind, found in scores.items()} == {
            "harmful": 60,
            "harmless": 60,
        }
        assert all(found == sorted(found) for found in scores.values())
        area = mean(a > b for a in scores["harmful"] for b in scores["harmless"])
        assert area == pytest.approx(self.FOUND.sparse.value, abs=1e-3)

    def test_as_many_tokens_as_the_head_has_inputs_cost_nothing_and_two_cost_much(self):
        assert self.FOUND.sparse.value == pytest.approx(self.FOUND.condition.value, abs=0.01)
        assert validated(known(), 2).sparse.value < self.FOUND.condition.value - 0.05

    def test_a_category_without_labels_is_lost(self):
        for one in self.FOUND.categories[:2]:
            assert one.condition.value > 0.9
            assert one.left_out.value < one.condition.value - 0.2
            assert not one.few

    def test_every_category_is_there_with_its_labels(self):
        shown = [(one.kind, one.category, one.labels) for one in self.FOUND.categories]
        assert shown == [("harmful", "A", 30), ("harmful", "B", 30), ("harmless", "", 60)]
        assert self.FOUND.categories[2].left_out is None  # no harmless prompt would be left

    def test_a_category_with_few_labels_says_so(self):
        found = validated(known(of=lambda n: "B" if n < 12 else "A"))
        assert [(one.category, one.few) for one in found.categories] == [
            ("A", False), ("B", True), ("", False),
        ]  # fmt: skip

    def test_more_labels_are_worth_more(self):
        curve = self.FOUND.labels
        assert list(curve) == ["8", "16", "32"]  # a fold leaves 48 of each kind
        assert curve["8"].value < curve["32"].value

    def test_shuffled_labels_are_near_a_half(self):
        assert self.FOUND.shuffled.low < 0.5 < self.FOUND.shuffled.high
        assert 0.4 < self.FOUND.shuffled.value < 0.6


def test_noise_is_called_noise():
    found = validated(known(apart=0.0))
    assert found.condition.low < 0.5
    assert found.told.case.name == "threshold"
    assert ".5 is chance" in found.told.case.why


def test_what_the_log_odds_say_too_is_no_gain():
    data = known()
    same = replace(data, log_odds=data.inputs[:, 0] + data.inputs[:, 1])
    found = validated(same)
    assert found.sparse.low > 0.5
    assert found.told.case.name == "threshold"
    assert "not clearly better than the refusal log-odds" in found.told.case.why
    assert held_out(same).case.name == "threshold"
    assert held_out(data).case.name == "condition"


def test_near_copies_are_no_evidence():
    data = known(apart=1.0, rows=40)
    places = torch.arange(40).repeat_interleave(8)
    copied = HeadInputs(
        data.inputs[places],
        data.harmful[places],
        data.log_odds[places],
        [data.categories[n] for n in places],
        [data.groups[n] for n in places],
    )
    found, split = validated(copied), validated(replace(copied, groups=list(map(str, range(320)))))
    for name in ("condition", "sparse", "log_odds", "gain"):
        one, other = getattr(found, name), getattr(split, name)
        assert one.high - one.low > 1.8 * (other.high - other.low)
    for one, other in zip(found.categories, split.categories, strict=True):
        assert one.log_odds.value == other.log_odds.value
        assert one.log_odds.high - one.log_odds.low > 1.8 * (
            other.log_odds.high - other.log_odds.low
        )
    assert held_out(copied).gain.high - held_out(copied).gain.low > 0.1


def test_no_end_of_an_area_is_beyond_what_an_area_can_be(monkeypatch):
    drawn = iter([1.0, 0.9] * crossvalidation.SHUFFLES)
    monkeypatch.setattr(crossvalidation, "SHUFFLES", 2)
    monkeypatch.setattr(crossvalidation, "area", lambda score, harmful: next(drawn))
    assert crossvalidation._shuffled(known(rows=20), 0.1) == Estimate(
        0.95, pytest.approx(0.3147, abs=1e-3), 1.0, 2
    )


@pytest.mark.parametrize("field", ["inputs", "log_odds"])
def test_nan_is_refused(field):
    data = known()
    with pytest.raises(NumericalError, match="NaN"):
        replace(data, **{field: getattr(data, field) * torch.nan})
