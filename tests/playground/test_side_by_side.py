import dataclasses
import threading
from threading import Event

import pytest
import torch

from tests import tiny
from tests.waiting import HANGS
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import NumericalError, PromptError, UsageError
from tsdi.playground import Setting, SideBySide
from tsdi.playground.side_by_side import CANDIDATES, _Pieces

PROMPT = "the river runs"
TOKENS = 12
CONDITION = tiny.condition(low=-0.5, high=1.5)


def engine(condition=None, setting=Setting(), bias=None):
    bias = (bias or tiny.bias()).with_condition(condition)
    return SideBySide(tiny.model("llama"), tiny.tokenizer(), bias, setting)


def last(made, setting=Setting(), prompt=PROMPT):
    setting = dataclasses.replace(setting, max_new_tokens=TOKENS)
    *_, found = made.answer(prompt, setting, Event())
    return found


@pytest.mark.parametrize(
    ("condition", "setting", "strength"),
    [
        (None, Setting(strength=1.5), 1.5),
        (None, Setting(strength=1.5, steps=1), 1.5),
        (None, Setting(), 1.0),  # nothing is recommended
        (CONDITION, Setting(), None),
        (CONDITION, Setting(low=-2.0, high=3.0), None),
        (CONDITION, Setting(strength=2.0), 2.0),
    ],
)
def test_answers_are_the_engines_own(condition, setting, strength):
    """Plain and debiased, each as `tsdi generate` would answer alone."""
    found = last(engine(condition), setting)
    bias = tiny.bias().truncate(setting.steps or 3)
    if condition is not None and setting.low is not None:
        condition = dataclasses.replace(condition, low=setting.low, high=setting.high)
    bias = bias.with_condition(condition)
    parts = tiny.model("llama"), tiny.tokenizer()
    asked = [Request.from_text(PROMPT)], Sampling(TOKENS)
    (plain,) = TransformersEngine(*parts).generate(*asked)
    (debiased,) = TransformersEngine(*parts, bias, strength).generate(*asked)
    assert plain.text.rstrip("\ufffd") == found.plain.text
    assert debiased.text.rstrip("\ufffd") == found.debiased.text
    assert plain.text != debiased.text
    assert len(found.debiased.tokens) == len(debiased.token_ids)
    assert (found.plain.finish, found.debiased.finish) == (plain.finish, debiased.finish)
    assert found.steps == bias.steps
    assert strength is None or found.strength == strength


@pytest.mark.parametrize("row", ["plain", "debiased"])
def test_it_says_how_much_each_token_is_moved(row):
    """Against teacher-forced logits in float64, of the answer that was given."""
    strength, model, known, bias = 1.5, tiny.model("llama"), tiny.tokenizer(), tiny.bias()
    found = getattr(last(engine(), Setting(strength=strength)), row)
    other = TransformersEngine(model, known, bias, strength if row == "debiased" else 0.0)
    (answer,) = other.generate([Request.from_text(PROMPT)], Sampling(TOKENS))
    prompt = other.encode(Request.from_text(PROMPT))
    ids = torch.tensor([prompt + list(answer.token_ids)])
    logits = tiny.logits(model, ids, ids.shape[1])[0, len(prompt) - 1 : -1]
    shifted = logits.clone()
    shifted[: bias.steps] -= strength * bias.values.double()
    change = shifted.log_softmax(-1) - logits.log_softmax(-1)
    truth = change[range(len(answer.token_ids)), list(answer.token_ids)]
    assert [token.moved for token in found.tokens] == pytest.approx(truth.tolist(), abs=1e-4)
    assert all(token.moved == 0 for token in found.tokens[bias.steps :])


def test_the_first_tokens_are_the_likeliest_before_or_after():
    made = engine()
    found = last(made, Setting(strength=1.0))
    ids = torch.tensor([made.encode(Request.from_text(PROMPT))])
    logits = tiny.logits(tiny.model("llama"), ids, 1)[0, 0]
    before = logits.softmax(-1)
    after = (logits - tiny.bias().values[0].double()).softmax(-1)
    order = torch.maximum(before, after).argsort(descending=True)[:CANDIDATES]
    assert [one.before for one in found.first] == pytest.approx(before[order].tolist(), abs=1e-5)
    assert [one.after for one in found.first] == pytest.approx(after[order].tolist(), abs=1e-5)
    assert [one.text for one in found.first] == [made.decode([int(one)]) for one in order]


def test_the_condition_reads_the_prompt_whatever_strength_is_named():
    made = engine(CONDITION)
    ids = torch.tensor([made.encode(Request.from_text(PROMPT))])
    logits = tiny.logits(tiny.model("llama"), ids, 1)[:, 0].float()
    by, named = last(made), last(made, Setting(strength=0.5))
    assert by.reading.score == pytest.approx(float(CONDITION.score(logits)), abs=1e-4)
    assert by.strength == by.reading.strength
    assert by.reading.strength == pytest.approx(float(CONDITION.strength(logits)), abs=1e-4)
    assert (named.strength, named.reading) == (0.5, by.reading)
    assert last(engine()).reading is None


def test_of_a_bias_behind_a_marker_the_first_tokens_are_those_behind_it():
    """At strength 0 nothing is ever moved; then they are the answer's first."""
    bias = tiny.bias(anchor="</think>")
    made = engine(bias=bias)
    assert {one.before - one.after for one in last(made).first} == {0.0}
    found = last(made, prompt="the </think>")
    assert any(token.moved for token in found.debiased.tokens) == any(
        one.before != one.after for one in found.first
    )


class Held(SideBySide):
    """An engine that stops to think before its third token, until it may go on."""

    def __init__(self):
        super().__init__(tiny.model("llama"), tiny.tokenizer(), tiny.bias())
        self.go = Event()

    def decode(self, ids):
        assert len(ids) < 3 or self.go.wait(HANGS)
        return super().decode(ids)


def test_answers_grow_and_can_be_stopped():
    made, stop = Held(), Event()
    answers = made.answer(PROMPT, Setting(), stop)
    begun = next(answers)
    assert not begun.done
    assert 1 <= len(begun.plain.tokens) <= 2
    stop.set()
    made.go.set()
    *_, found = answers
    assert found.done
    assert {found.plain.finish, found.debiased.finish} == {"stopped"}
    assert len(found.plain.tokens) <= 3


def test_whoever_leaves_ends_the_work():
    made, stop = Held(), Event()
    answers = made.answer(PROMPT, Setting(), stop)
    next(answers)
    made.go.set()
    answers.close()
    assert stop.is_set()
    assert "tsdi-playground" not in {thread.name for thread in threading.enumerate()}


def test_an_answer_takes_what_the_context_leaves():
    made = engine()
    room = made.context - len(made.encode(Request.from_text(PROMPT)))
    *_, found = made.answer(PROMPT, Setting(max_new_tokens=1000), Event())
    assert len(found.plain.tokens) == room
    assert found.plain.finish == "length"


@pytest.mark.parametrize(
    ("condition", "setting", "words"),
    [
        (None, Setting(low=0.0), "no condition"),
        (CONDITION, Setting(strength=1.0, high=1.0), "One strength for all"),
        (CONDITION, Setting(low=2.0), "above the high one"),
        (None, Setting(steps=4), "3 steps, not 4"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(condition, setting, words):
    tiny.refused(lambda: engine(condition, setting), words, kind=UsageError)
    tiny.refused(lambda: last(engine(condition), setting), words, kind=UsageError)


@pytest.mark.parametrize("wrong", [{"strength": -1.0}, {"steps": 0}, {"low": "x"}])
def test_a_setting_that_is_none_is_refused(wrong):
    tiny.refused(lambda: Setting(**wrong), next(iter(wrong)), kind=UsageError)


def test_a_complete_setting_stays_as_it_is():
    for made in (engine(), engine(CONDITION), engine(CONDITION, Setting(strength=1.0))):
        assert made.complete(made.start) == made.start


def test_errors_come_to_who_asked():
    made = engine()
    with pytest.raises(PromptError):
        next(made.answer("a " * 500, Setting(), Event()))
    broken = engine()
    with torch.no_grad():
        broken._model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(NumericalError):
        last(broken)


def test_a_character_of_several_tokens_is_the_last_ones():
    made = engine()
    text = "the 数 mill 🙂 runs"
    ids = tiny.tokenizer()(text, add_special_tokens=False)["input_ids"]
    pieces = _Pieces(made)
    grown = [pieces.of(ids[:number]) for number in range(1, len(ids) + 1)]
    assert "".join(grown[-1]) == text
    assert grown[-1] == _Pieces(made).of(ids)
    assert not any("\ufffd" in piece for piece in grown[-1])
