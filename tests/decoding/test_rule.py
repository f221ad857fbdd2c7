"""The rule on plain tensors: what it changes, and all that it leaves alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsdi.decoding.rule import subtract_bias

STEPS, VOCAB = 3, 5
BIAS = torch.arange(1.0, 16).reshape(STEPS, VOCAB)
finite = st.floats(-100, 100, width=32)


@st.composite
def batches(draw):
    """Logits with -inf here and there and padding columns, and a step and a strength per row."""
    rows, padding = draw(st.integers(1, 4)), draw(st.integers(0, 2))
    number = finite | st.just(-torch.inf)
    size = rows * (VOCAB + padding)
    logits = draw(st.lists(number, min_size=size, max_size=size))
    steps = draw(st.lists(st.integers(-2, STEPS + 2), min_size=rows, max_size=rows))
    strength = draw(st.lists(finite, min_size=rows, max_size=rows))
    return (
        torch.tensor(logits).reshape(rows, -1),
        torch.tensor(steps),
        torch.tensor(strength),
    )


@given(batches())
def test_every_row_is_as_the_formula_says(batch):
    logits, steps, strength = batch
    found = subtract_bias(logits, steps, BIAS, strength)
    for row, step in enumerate(steps.tolist()):
        truth = logits[row].clone()
        if 0 <= step < STEPS:
            truth[:VOCAB] -= strength[row] * BIAS[step]
        assert torch.equal(found[row], truth)


@given(batches())
def test_strength_0_is_the_identity(batch):
    logits, steps, _ = batch
    assert torch.equal(subtract_bias(logits, steps, BIAS, 0.0), logits)
    assert torch.equal(subtract_bias(logits, 0, BIAS, torch.zeros(len(logits))), logits)


@given(batches())
def test_what_cannot_be_said_stays_so(batch):
    logits, steps, strength = batch
    found = subtract_bias(logits, steps, BIAS, strength)
    assert torch.equal(found.isneginf(), logits.isneginf())
    assert not found.isnan().any()


@given(batches())
def test_padding_columns_stay(batch):
    logits, steps, strength = batch
    found = subtract_bias(logits, steps, BIAS, strength)
    assert torch.equal(found[:, VOCAB:], logits[:, VOCAB:])


@given(batches())
def test_the_input_is_never_modified(batch):
    before = [tensor.clone() for tensor in batch]
    bias = BIAS.clone()
    logits, steps, strength = batch
    subtract_bias(logits, steps, bias, strength)
    for step in range(-1, STEPS + 1):
        subtract_bias(logits, step, bias, 1.0)
    assert torch.equal(bias, BIAS)
    assert all(torch.equal(*pair) for pair in zip(batch, before, strict=True))


@given(batches(), st.integers(-2, STEPS + 2))
def test_one_step_for_all_is_the_same_step_for_each(batch, step):
    logits, steps, strength = batch
    each = subtract_bias(logits, torch.full_like(steps, step), BIAS, strength)
    assert torch.equal(subtract_bias(logits, step, BIAS, strength), each)


@pytest.mark.parametrize("step", [-1, STEPS, STEPS + 1, 10**6])
def test_outside_the_first_steps_nothing_changes(step):
    logits = torch.randn(2, VOCAB)
    assert torch.equal(subtract_bias(logits, step, BIAS), logits)
    assert torch.equal(subtract_bias(logits, torch.tensor([step, step]), BIAS), logits)


def test_half_precision_stays_half_precision():
    found = subtract_bias(torch.ones(1, VOCAB).half(), 1, BIAS)
    assert found.dtype == torch.float16
    assert torch.equal(found[0], (1 - BIAS[1]).half())
