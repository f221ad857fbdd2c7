"""Prompts read in batches, each beginning of a phrase once: the figures of the slow way."""

import logging
import math

import pytest
import torch
from accelerate.utils import memory

from tests import tiny
from tsdi.bias import read_prompts as reading_module
from tsdi.bias.prompt_cache import PromptCache
from tsdi.bias.read_prompts import PromptReader
from tsdi.bias.refusal_log_odds import FIRST_TOKENS, PhraseTree, refusal_log_odds

TOKENIZER = tiny.tokenizer()
REFUSING = [[40, 41], [40, 42, 43], [40, 42, 44, 45], [50]]
COMPLYING = [[51], [52, 41], [53, 54, 55]]
PROMPTS = [tiny.ids(1, length, seed=length)[0].tolist() for length in (5, 17, 9, 9, 3)]
BIAS = torch.randn(2, tiny.VOCAB, generator=torch.Generator().manual_seed(0))
STEPS = 4
# Full attention, learnt positions, a window and soft caps, experts, ALiBi, and states for a cache.
STATES = ("mamba", "recurrent_gemma")
KINDS = ("llama", "gpt2", "gemma2", "mixtral", "phi", "cohere", "bloom", *STATES)


def model(kind):
    if kind == "bloom":
        return tiny.model("bloom", hidden_size=32, n_layer=2, n_head=2)
    if kind == "mamba":
        return tiny.model("mamba", state_size=4, num_hidden_layers=2)
    if kind == "recurrent_gemma":
        return tiny.model(kind, head_dim=16, lru_width=32, num_hidden_layers=3)
    return tiny.model(kind, **({"sliding_window": 8} if kind == "gemma2" else {}))


def asked(**changes):
    settings = {"steps": STEPS, "batch_size": 3, **changes}
    return PromptReader(TOKENIZER, REFUSING, COMPLYING, **settings)


def slow_logits(model, ids):
    """Of the token after these, in float64, without cache, padding or neighbours."""
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0, -1].double()


def slow_odds(model, prompt, bias=None):
    def log_prob(phrase):
        total = 0.0
        for step, token in enumerate(phrase):
            logits = slow_logits(model, [*prompt, *phrase[:step]])
            if bias is not None and step < len(bias):
                logits = logits - bias[step].double()
            total += float(logits.log_softmax(0)[token])
        return total

    refusing, complying = (
        math.log(sum(math.exp(log_prob(phrase)) for phrase in phrases))
        for phrases in (REFUSING, COMPLYING)
    )
    return refusing - complying


def slow_answer(model, prompt):
    answer, rows = [], []
    while len(answer) < STEPS and 2 not in answer:  # 2 is the end
        rows.append(slow_logits(model, [*prompt, *answer]))
        answer.append(int(rows[-1].argmax()))
    return answer, torch.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_every_reading_is_that_of_the_slow_way(kind):
    made, question = model(kind), asked()
    batched = question.can_batch(made, PROMPTS)
    assert batched == (kind not in STATES)
    found = list(question.read(made, PROMPTS, None, (None, BIAS), batched))
    assert len(found) == len(PROMPTS)
    for prompt, one in zip(PROMPTS, found, strict=True):
        answer, logits = slow_answer(made, prompt)
        expected = [slow_odds(made, prompt), slow_odds(made, prompt, BIAS)]
        assert one.odds == pytest.approx(expected, abs=2e-4)
        assert one.answer == answer
        assert tiny.error(one.logits, logits) < 1e-4


@pytest.mark.parametrize("kind", ["llama", "gemma2", "mamba"])
def test_answers_that_are_given_are_read_behind_the_prompt(kind):
    made, question = model(kind), asked()
    answers = [[7, 8, 9, 10], [11], [12, 13], [14, 15, 16], [17]]
    batched = question.can_batch(made, PROMPTS)
    found = list(question.read(made, PROMPTS, answers, (None,), batched))
    for prompt, answer, one in zip(PROMPTS, answers, found, strict=True):
        truth = [slow_logits(made, [*prompt, *answer[:i]]) for i in range(len(answer))]
        assert one.answer == answer
        assert tiny.error(one.logits, torch.stack(truth)) < 1e-4


def test_a_batch_is_read_in_few_passes():
    made, question = model("llama"), asked(batch_size=8)
    with tiny.rows_run(made) as seen:
        list(question.read(made, PROMPTS, None, (None,), True))
    read = [tuple(ids.shape) for ids in seen if ids.shape != (1, 1)]  # less the ways to the head
    beginnings = [(15, 1), (10, 1), (5, 1)]  # 3 first tokens of 5 prompts, 2 second ones, 1 third
    assert read == [(5, 17), *beginnings, *[(5, 1)] * (STEPS - 1)]


@pytest.mark.parametrize(("kind", "batched"), [("llama", True), ("mamba", False)])
def test_where_padding_or_a_cache_changes_answers_prompts_are_read_singly(kind, batched, caplog):
    with caplog.at_level(logging.WARNING):
        assert asked().can_batch(model(kind), PROMPTS) == batched
    assert bool(caplog.text) != batched


def test_a_model_that_ignores_its_mask_is_noticed():
    made = model("llama")
    forward = made.forward

    def unmasked(*args, attention_mask=None, **options):
        return forward(*args, **options)

    made.forward = unmasked
    assert not asked().can_batch(made, PROMPTS)
    assert asked().can_batch(made, [PROMPTS[0]] * 2)  # nothing is padding there


def test_batches_shrink_where_memory_is_short(monkeypatch):
    made, question, sizes = model("llama"), asked(batch_size=8), []

    class Short(PromptCache):
        def __init__(self, model, prompts, pad):
            sizes.append(len(prompts))
            if len(prompts) > 2:
                raise RuntimeError("CUDA out of memory.")
            super().__init__(model, prompts, pad)

    assert memory.should_reduce_batch_size(RuntimeError("CUDA out of memory."))
    whole = list(question.read(made, PROMPTS, None, (None,), True))
    monkeypatch.setattr(reading_module, "PromptCache", Short)
    parts = list(question.read(made, PROMPTS, None, (None,), True))
    assert sizes == [5, 4, 2, 2, 1]
    for one, other in zip(whole, parts, strict=True):
        assert one.answer == other.answer
        assert one.odds == pytest.approx(other.odds, abs=1e-4)


def test_every_beginning_is_read_once():
    first, second = PhraseTree(REFUSING, COMPLYING).branches, PhraseTree([[1]], [[2]]).branches
    assert first == [[[(0, 40), (0, 52), (0, 53)], [(0, 42), (2, 54)], [(0, 44)]]]
    assert second == []


def test_many_first_tokens_are_read_in_parts():
    many = [[token, 7] for token in range(10, 30)]
    made, question = model("llama"), PromptReader(TOKENIZER, many, [[8, 9, 7]], STEPS, 8)
    with tiny.rows_run(made) as seen:
        found = list(question.read(made, PROMPTS, None, (None,), True))
    assert max(len(ids) for ids in seen) == len(PROMPTS) * FIRST_TOKENS
    slow = [refusal_log_odds(made, prompt, many, [[8, 9, 7]], (None,))[0] for prompt in PROMPTS]
    assert [one.odds[0] for one in found] == pytest.approx(slow, abs=1e-4)
