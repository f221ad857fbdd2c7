"""Merged weights, shifts that are no estimate, and prompts with a defence in them."""

import pytest
import torch

from tests import tiny
from tsdi.baselines import prompting, shifts
from tsdi.baselines.weights import merged
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import MismatchError, PromptError
from tsdi.models.load import load_model
from tsdi.training.merge import merge

TOKENIZER, MODEL = tiny.tokenizer(), tiny.model("llama", max_position_embeddings=512)
USER = ({"role": "user", "content": "the mill"},)
ONE = Sampling(max_new_tokens=2, keep_logits=True)


def test_a_merge_in_memory_is_the_merge_of_the_files(tmp_path):
    other = tiny.moved(MODEL)
    for name, model in (("a", MODEL), ("b", other)):
        model.save_pretrained(tmp_path / name)
        TOKENIZER.save_pretrained(tmp_path / name)
    merge([(tmp_path / "a", 0.25), (tmp_path / "b", 0.75)], tmp_path / "out")
    expected = load_model(str(tmp_path / "out")).state_dict()
    found = merged(MODEL, other, 0.25).state_dict()
    assert all(torch.allclose(found[name], expected[name], atol=1e-7) for name in expected)


def test_models_of_other_shapes_are_not_merged():
    with pytest.raises(MismatchError, match="do not go together"):
        merged(MODEL, tiny.model("llama", intermediate_size=64), 0.5)


def test_a_constant_shift_adds_it_at_the_first_step_only():
    shift = shifts.constant_shift(TOKENIZER, MODEL, [20, 30], 2.5)
    plain = TransformersEngine(MODEL, TOKENIZER).generate([Request(USER)], ONE)[0]
    shifted = TransformersEngine(MODEL, TOKENIZER, shift, 1.0).generate([Request(USER)], ONE)[0]
    added = (shifted.logits - plain.logits)[0]
    assert added[[20, 30]].tolist() == pytest.approx([2.5, 2.5], abs=1e-5)
    added[[20, 30]] = 0
    assert not added.any()
    if shifted.token_ids[0] == plain.token_ids[0]:
        assert torch.equal(shifted.logits[1], plain.logits[1])


def test_a_static_shift_is_the_mean_over_steps_at_every_step():
    bias = tiny.bias()
    static = shifts.static_shift(bias)
    assert static.values.shape == bias.values.shape
    mean = bias.values.double().mean(0).float()
    assert torch.allclose(static.values, mean.expand_as(static.values), atol=1e-6)


def test_prompted_engines_ask_something_else_and_keep_the_strength():
    engine = TransformersEngine(MODEL, TOKENIZER, tiny.bias(), 1.0)
    prompted = prompting.PromptedEngine(engine, prompting.self_reminder)
    asked = Request(prompting.self_reminder(USER), strength=0.0)
    assert prompted.generate([Request(USER, 0.0)], ONE) == engine.generate([asked], ONE)
    with pytest.raises(PromptError, match="context"):
        prompted.check(Request(USER), Sampling(max_new_tokens=500))


def test_the_users_words_stay_in_every_defence():
    for transform in (
        prompting.self_reminder,
        prompting.in_context_demonstration,
        prompting.emphasise_safety,
    ):
        changed = transform(USER)
        assert "the mill" in changed[-1]["content"]
        assert changed[-1]["role"] == "user"
        assert len(changed) > 1


def test_a_system_prompt_is_put_before_the_one_that_is_there():
    chat = ({"role": "system", "content": "Speak French."}, *USER)
    system, *rest = prompting.with_system(chat, "Be kind.")
    assert system == {"role": "system", "content": "Be kind.\n\nSpeak French."}
    assert tuple(rest) == USER
