"""What a condition's controls see, and what they are fitted to."""

import pytest
import torch

from tests import tiny
from tests.condition.test_fitting import PHRASES, TOKENIZER, labelled, last_logits
from tsdi.baselines.conditions import SHOWN, fit_log_odds, fit_top, shuffled
from tsdi.condition.prompts import read_labelled
from tsdi.errors import UsageError

REFUSING, COMPLYING = [12, 30], [9, 17, 60]


@pytest.fixture(scope="module")
def known():
    return read_labelled(tiny.model(), TOKENIZER, labelled(), PHRASES, batch_size=32)


@pytest.fixture(scope="module")
def logits():
    return last_logits(tiny.model(), labelled(40, seed=1)).float()


def right(score):
    harmful = torch.tensor([prompt.harmful for prompt in labelled(40, seed=1)])
    return float(((score > 0) == harmful).double().mean())


def test_log_odds_are_those_of_the_first_tokens(known, logits):
    made = fit_log_odds(tiny.model(), known, REFUSING, COMPLYING)
    chances = logits.double().softmax(1)
    odds = (chances[:, REFUSING].sum(1) / chances[:, COMPLYING].sum(1)).log()
    expected = made.scale * odds + made.intercept
    assert made.scale > 0
    assert made.score(logits).double() == pytest.approx(expected, rel=1e-4)
    assert made.score(logits + 7.0) == pytest.approx(made.score(logits), abs=1e-3)


def test_tokens_that_begin_both_kinds_of_answers_are_left_out(known):
    made = fit_log_odds(tiny.model(), known, [12, 30], [12, 17])
    assert made.tokens.tolist() == [17, 30]
    with pytest.raises(UsageError, match="begin with the same tokens"):
        fit_log_odds(tiny.model(), known, [12], [12])


def test_the_top_alone_tells_planted_kinds_and_nothing_below_it_counts(known, logits):
    made = fit_top(tiny.model(), known, tiny.VOCAB)
    assert right(made.score(logits)) > 0.8
    hidden = torch.full_like(logits, -50.0)
    top = logits.topk(SHOWN)
    hidden.scatter_(1, top.indices, top.values)
    assert torch.equal(made.score(hidden), made.score(logits))
    assert not torch.equal(made.score(logits * (logits < top.values[:, :1])), made.score(logits))


def test_shuffled_labels_are_as_many_and_other_ones(known):
    other = shuffled(known, 1)
    assert other.harmful.sum() == known.harmful.sum()
    assert not torch.equal(other.harmful, known.harmful)
    assert not torch.equal(other.harmful, shuffled(known, 2).harmful)
    assert torch.equal(other.inputs, known.inputs)
