"""Weights of tokens: what a direction says, from logits alone."""

import pytest
import torch

from tests import tiny
from tsdi.condition.discriminant import Direction
from tsdi.condition.tokens import HeadMap, read_head, to_tokens

HIDDEN, CANDIDATES = 16, 200


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LINEAR = HeadMap(torch.arange(CANDIDATES) * 3, drawn(HIDDEN, CANDIDATES), drawn(CANDIDATES, seed=1))
INPUTS = drawn(60, HIDDEN, seed=2).double() + 1
DIRECTION = Direction(drawn(HIDDEN, seed=3).double(), 0.7, 0.1)


def logits(inputs):
    """What a model with this head gives, all tokens in between being something else."""
    whole = drawn(len(inputs), 3 * CANDIDATES, seed=4).double()
    whole[:, LINEAR.tokens] = inputs @ LINEAR.matrix.double() + LINEAR.offset.double()
    return whole


def score(found, inputs):
    return logits(inputs)[:, found.tokens] @ found.weights.double() + found.intercept


class TestExactly:
    @pytest.mark.parametrize("number", [HIDDEN + 8, CANDIDATES, 10**6])
    def test_enough_tokens_say_it_of_any_prompt(self, number):
        found = to_tokens(DIRECTION, INPUTS, LINEAR, number, noise=0.0)
        fresh = 5 * drawn(30, HIDDEN, seed=5).double()
        torch.testing.assert_close(score(found, fresh), DIRECTION.score(fresh), rtol=0, atol=1e-3)
        assert len(found.tokens) == min(number, CANDIDATES)

    def test_a_constant_added_to_all_logits_changes_nothing(self):
        found = to_tokens(DIRECTION, INPUTS, LINEAR, 50)
        assert abs(float(found.weights.double().sum())) < 1e-6
        shifted = logits(INPUTS) + 100
        again = shifted[:, found.tokens] @ found.weights.double() + found.intercept
        torch.testing.assert_close(again, score(found, INPUTS), rtol=0, atol=1e-4)


class TestFewTokens:
    @pytest.mark.parametrize("number", [2, 5, 12, 40])
    def test_what_it_says_to_the_fit_is_what_it_says_to_engines(self, number):
        found = to_tokens(DIRECTION, INPUTS, LINEAR, number)
        fresh = drawn(30, HIDDEN, seed=6).double()
        torch.testing.assert_close(found.seen.score(fresh), score(found, fresh), atol=1e-4, rtol=0)

    def test_it_is_the_slow_least_squares(self):
        found = to_tokens(DIRECTION, INPUTS, LINEAR, 5, noise=0.3)
        places = torch.isin(LINEAR.tokens, found.tokens)
        matrix = LINEAR.matrix[:, places].double()
        matrix = matrix - matrix.mean(1, keepdim=True)
        centred = INPUTS - INPUTS.mean(0)
        covariance = centred.T @ centred / len(INPUTS)
        target = torch.eye(HIDDEN, dtype=torch.float64) * covariance.trace() / HIDDEN
        shrunk = 0.9 * covariance + 0.1 * target
        normal = matrix.T @ shrunk @ matrix + 0.09 * torch.eye(5, dtype=torch.float64)
        expected = torch.linalg.inv(normal) @ matrix.T @ shrunk @ DIRECTION.vector
        torch.testing.assert_close(found.weights.double(), expected, rtol=1e-5, atol=1e-7)

    def test_more_tokens_say_it_better_and_the_mean_is_always_right(self):
        errors = []
        for number in (2, 6, 12, 40):
            found = to_tokens(DIRECTION, INPUTS, LINEAR, number)
            wrong = score(found, INPUTS) - DIRECTION.score(INPUTS)
            assert abs(float(wrong.mean())) < 1e-4
            errors.append(float(wrong.std()))
        assert errors == sorted(errors, reverse=True)

    def test_noise_keeps_weights_small(self):
        sizes = [
            float(to_tokens(DIRECTION, INPUTS, LINEAR, HIDDEN + 1, noise).weights.norm())
            for noise in (0.0, 0.03, 1.0)
        ]
        assert sizes == sorted(sizes, reverse=True)


class TestTheModelsHead:
    @pytest.mark.parametrize("kind", ["llama", "gpt2", "granite", "cohere", "phi"])
    def test_it_is_the_function_from_inputs_to_logits(self, kind):
        model, tokenizer = tiny.model(kind), tiny.tokenizer()
        found = read_head(model, tokenizer, 32)
        inputs = []
        handle = model.get_output_embeddings().register_forward_pre_hook(
            lambda _module, args: inputs.append(args[0][:, -1])
        )
        rows = tiny.ids(3, 9)
        expected = tiny.logits(model, rows, 1)[:, 0]
        handle.remove()
        made = inputs[0].double() @ found.matrix.double() + found.offset.double()
        torch.testing.assert_close(made, expected[:, found.tokens], rtol=0, atol=1e-4)

    def test_special_tokens_are_not_read(self):
        tokenizer = tiny.tokenizer()
        found = read_head(tiny.model(), tokenizer, 32).tokens.tolist()
        assert not set(found) & set(tokenizer.all_special_ids)
        assert len(found) + len(set(tokenizer.all_special_ids)) == tiny.VOCAB
