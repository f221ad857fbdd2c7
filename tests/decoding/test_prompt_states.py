"""Prompts that are read once are answered as if they were read each time."""

import pytest
import torch

from tests import tiny
from tsdi.decoding.greedy import generate_greedily, pad_left
from tsdi.decoding.prompt_states import PromptStates

PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]
LONG = [[(7 * i) % 300 + 7 for i in range(40)], [9, 8, 7]]


def decoded(model, prompts, states=None):
    answers, logits = generate_greedily(
        model, tiny.tokenizer(), prompts, 6, keep_logits=True, states=states
    )
    return answers, logits


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "mixtral", "qwen2"])
@pytest.mark.parametrize("prompts", [PROMPTS, LONG], ids=["short", "long"])
def test_logits_are_those_of_a_single_reading(kind, prompts):
    model = tiny.model(kind)
    states = PromptStates(model)
    answers, logits = decoded(model, prompts)
    for _ in range(3):  # the first reads, the others find
        again, theirs = decoded(model, prompts, states)
        assert again == answers
        torch.testing.assert_close(theirs, logits, rtol=1e-4, atol=1e-4)


def test_a_second_answer_reads_the_last_token_only():
    model, seen = tiny.model("llama"), []
    model.get_input_embeddings().register_forward_hook(
        lambda _module, inputs, _output: seen.append(inputs[0].shape[1])
    )
    states = PromptStates(model)
    decoded(model, PROMPTS, states)
    assert seen[:2] == [4, 1]
    seen.clear()
    decoded(model, PROMPTS, states)
    assert set(seen) == {1}


def test_what_is_kept_is_not_changed_by_answers():
    model = tiny.model("llama")
    states = PromptStates(model)
    decoded(model, PROMPTS, states)
    kept = states.arguments(*pad_left(PROMPTS, 0))["past_key_values"].layers[0]
    before = kept.keys.clone()
    decoded(model, PROMPTS, states)
    assert torch.equal(kept.keys, before)
    assert kept.keys.shape[2] == 4


def test_nothing_is_kept_beyond_the_bytes_that_are_given():
    model = tiny.model("llama")
    states = PromptStates(model, most_bytes=0)
    answers, _ = decoded(model, PROMPTS)
    for _ in range(2):
        assert decoded(model, PROMPTS, states)[0] == answers
    assert not states._kept


def test_prompts_of_one_token_are_read_with_the_answer():
    model = tiny.model("llama")
    assert decoded(model, [[5], [6]], PromptStates(model))[0] == decoded(model, [[5], [6]])[0]
