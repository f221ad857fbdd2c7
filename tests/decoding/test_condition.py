"""A condition's strength, from its definition; and what is no condition."""

import math

import pytest
import torch

from tsdi.decoding.condition import Condition, RowStrengths
from tsdi.errors import MismatchError, UsageError

TOKENS, WEIGHTS = torch.tensor([1, 4, 6]), torch.tensor([0.5, -0.75, 0.25])


def condition(**changes):
    return Condition(**{"tokens": TOKENS, "weights": WEIGHTS, "intercept": 0.3, **changes})


def logits(rows=5, width=9):
    return 3 * torch.randn(rows, width, generator=torch.Generator().manual_seed(0))


def slow(row, low=0.0, high=1.0, width=1.0):
    score = sum(w * row[t] for t, w in zip(TOKENS.tolist(), WEIGHTS.tolist(), strict=True)) + 0.3
    return high + (low - high) / (1 + math.exp(-score / width))


@pytest.mark.parametrize("numbers", [{}, {"low": -1.5, "high": 2.0, "width": 0.2}, {"low": 1.0}])
def test_every_prompt_has_the_strength_of_the_definition(numbers):
    found = condition(**numbers).strength(logits())
    expected = [slow(row, **numbers) for row in logits().tolist()]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_log_probabilities_and_half_precision_say_the_same():
    one = condition(low=-1.0)
    plain = one.strength(logits())
    torch.testing.assert_close(one.strength(logits().log_softmax(1)), plain)
    torch.testing.assert_close(one.strength(logits().bfloat16()), plain, atol=0.02, rtol=0)
    assert one.strength(logits().bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("value", [-torch.inf, torch.inf, torch.nan])
def test_where_a_token_is_ruled_out_the_strength_is_low(value):
    rows = logits()
    rows[1, 4] = value
    rows[2, 5] = value  # which it does not read
    found, plain = condition(low=-0.5).strength(rows), condition(low=-0.5).strength(logits())
    assert float(found[1]) == -0.5
    assert torch.equal(found[[0, 2, 3, 4]], plain[[0, 2, 3, 4]])


def test_a_score_beyond_all_bounds_gives_an_end():
    sure = condition(low=-1.0, high=2.0, width=1e-6).strength(logits())
    assert set(sure.round(decimals=3).tolist()) == {-1.0, 2.0}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tokens": TOKENS[:2]}, "shapes"),
        ({"tokens": TOKENS[:0], "weights": WEIGHTS[:0]}, "shapes"),
        ({"tokens": TOKENS[None], "weights": WEIGHTS[None]}, "shapes"),
        ({"tokens": TOKENS.int()}, "torch.int32"),
        ({"weights": WEIGHTS.double()}, "torch.float64"),
        ({"tokens": torch.tensor([1, 1, 6])}, "do not ascend"),
        ({"tokens": torch.tensor([-1, 1, 6])}, "do not ascend"),
        ({"weights": WEIGHTS * torch.nan}, "NaN"),
        ({"weights": WEIGHTS + 1}, "add up to 0"),
        ({"intercept": math.inf}, "intercept"),
        ({"low": 1.5}, "low and high are 1.5 and 1"),
        ({"low": -101.0}, "low and high"),
        ({"high": 101.0}, "low and high"),
        ({"low": math.nan}, "low and high"),
        ({"width": 0.0}, "width is 0"),
        ({"width": math.inf}, "width"),
        ({"width": math.nan}, "width"),
    ],
)
def test_what_is_none_is_refused(changes, named):
    with pytest.raises(UsageError, match=f"no condition: .*{named}"):
        condition(**changes)


def test_another_vocabulary_is_refused():
    condition().check_width(7)
    with pytest.raises(MismatchError, match="reads token 6, of 6"):
        condition().check_width(6)


def test_what_was_set_is_known_row_by_row_with_rows_repeated():
    one, rows = condition(), logits(6)
    strengths = RowStrengths([one, 0.5, one])
    assert strengths.found == []
    strengths.at(rows, first=True)
    by_row = one.strength(rows).tolist()
    assert strengths.found == [*by_row[:2], None, None, *by_row[4:]]
    alone = RowStrengths(one)
    alone.at(rows, first=True)
    assert alone.found == by_row
    assert RowStrengths(0.5).found == []
