"""A model's plain and its debiased answer to one prompt, token by token, from one load.

Both are rows of one batch. The rule is applied to both, so that it can be said of each token of
either answer how much likelier subtraction makes it there; the plain row is then decoded from the
model's own logits.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Event, Thread
from typing import Literal

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from tsdi.arguments import Name, as_name, check_counts, check_number, check_whole
from tsdi.bias import SafetyBias
from tsdi.decoding.condition import Condition, Strength
from tsdi.decoding.end_tokens import until_end
from tsdi.decoding.greedy import generate_greedily
from tsdi.decoding.rule import check_strength
from tsdi.decoding.transformers import SafetyDebias
from tsdi.engines.base import Request
from tsdi.engines.encode import decode_answer
from tsdi.engines.transformers import Finite, Growing, TransformersEngine, memory_errors
from tsdi.errors import UsageError
from tsdi.models.load import LoadOptions, load_model, load_tokenizer

CANDIDATES = 10
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """What is subtracted, and how long answers are; None leaves it to the bias.

    Attributes:
        strength: Factor of the bias for all prompts; None is what its condition sets, or what it
            recommends, else 1.
        low: Strength where the condition finds a prompt surely harmful.
        high: Strength where it finds one surely harmless.
        steps: Response tokens at which the bias is subtracted; None is all that it has.
        max_new_tokens: Most tokens in an answer, and fewer where the context has no more room.
    """

    strength: float | None = None
    low: float | None = None
    high: float | None = None
    steps: int | None = None
    max_new_tokens: int = 128

    def __post_init__(self) -> None:
        check_counts(self, "max_new_tokens")
        if self.steps is not None:
            check_whole("steps", self.steps)
        if self.strength is not None:
            check_strength(self.strength)
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name))


@dataclass(frozen=True)
class Token:
    """A token of an answer.

    Attributes:
        text: The text that it adds; "" for special tokens and parts of a character.
        moved: The change of its log-probability by the subtraction here, in nats.
    """

    text: str
    moved: float


@dataclass(frozen=True)
class Answer:
    """One answer as far as it has come.

    Attributes:
        tokens: Its tokens.
        finish: "stop" if the model ended it, "length" if it was cut off, "stopped" if the user
            stopped it; "" while it grows.
    """

    tokens: tuple[Token, ...] = ()
    finish: Literal["", "stop", "length", "stopped"] = ""

    @property
    def text(self) -> str:
        """The answer's text."""
        return "".join(token.text for token in self.tokens)


@dataclass(frozen=True)
class Candidate:
    """A token that may come first, with its probability before and after the subtraction."""

    text: str
    before: float
    after: float


@dataclass(frozen=True)
class Reading:
    """A condition's reading of one prompt.

    Attributes:
        score: h(x).
        strength: The strength that it sets.
        labelled: By kind, h(x) of the prompts that the condition was fitted to, each held out;
            ascending. Empty for a condition of an earlier tsdi.
    """

    score: float
    strength: float
    labelled: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Both:
    """Both answers to a prompt as far as they have come.

    Attributes:
        plain: The model's own answer.
        debiased: The answer with the bias subtracted.
        strength: The strength that was used.
        steps: The number of response tokens at which the bias is subtracted.
        first: The likeliest first tokens, likeliest before or after first. Of a bias that begins
            behind a marker they are those of its first step.
        reading: What the condition reads, if the bias has one.
    """

    plain: Answer
    debiased: Answer
    strength: float
    steps: int
    first: tuple[Candidate, ...]
    reading: Reading | None

    @property
    def done(self) -> bool:
        """Whether both answers are complete."""
        return bool(self.plain.finish and self.debiased.finish)


class SideBySide(TransformersEngine):
    """An engine that answers a prompt plainly and debiased at once; greedy, one at a time.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        bias: The safety bias.
        setting: Setting to start with; `start` has it with all that it left to the bias.

    Raises:
        MismatchError: If the bias is not for this model and tokenizer.
        UsageError: If the setting does not fit the bias.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        bias: SafetyBias,
        setting: Setting = Setting(),
    ) -> None:
        self.bias = bias
        self.start = self.complete(setting)
        super().__init__(model, tokenizer, bias, self.start.strength)

    def complete(self, setting: Setting) -> Setting:
        """A setting with what it leaves to the bias filled in.

        Its strength stays None where the condition sets it, and low and high where it does not.

        Raises:
            UsageError: If it does not fit the bias.
        """
        condition, steps = self.bias.condition, setting.steps
        ranged = setting.low is not None or setting.high is not None
        if ranged and condition is None:
            raise UsageError(
                "This bias has no condition, so there is no low and no high strength.",
                "Name one strength, or fit a condition: tsdi condition.",
            )
        if ranged and setting.strength is not None:
            raise UsageError(
                "One strength for all prompts leaves nothing to the condition.",
                "Name the strength, or low and high.",
            )
        if steps is not None and steps > self.bias.steps:
            raise UsageError(f"The bias has {self.bias.steps} steps, not {steps}.")
        setting = replace(setting, steps=self.bias.steps if steps is None else steps)
        if setting.strength is not None:
            return setting
        if condition is None:
            recommended = self.bias.info.strength
            return replace(setting, strength=1.0 if recommended is None else recommended)
        low = condition.low if setting.low is None else setting.low
        high = condition.high if setting.high is None else setting.high
        if low > high:
            raise UsageError(f"The low strength is {low:g}, above the high one, {high:g}.")
        return replace(setting, low=low, high=high)

    def answer(self, prompt: str, setting: Setting, stop: Event) -> Iterator[Both]:
        """Both answers to a prompt, as they grow.

        What is not fetched in time is skipped for what is newer; the last one is complete. Setting
        the event ends both answers at the next token, and so does closing the iterator.

        Raises:
            PromptError: If the prompt is empty or does not fit the context.
            UsageError: If the setting does not fit the bias.
            TsdiError: If the model cannot answer.
        """
        setting = self.complete(setting)
        ids = self.encode(Request.from_text(prompt))
        run = _Run(self, ids, setting, stop)
        worker = Thread(target=run.work, name="tsdi-playground", daemon=True)
        worker.start()
        try:
            while True:
                found = run.newest()
                yield found
                if found.done:
                    return
        finally:
            stop.set()
            worker.join()

    def decode(self, ids: list[int]) -> str:
        """The text of an answer's tokens."""
        return decode_answer(self._tokenizer, ids)

    def debias(self, length: int, setting: Setting) -> SafetyDebias:
        """The rule of a complete setting, for prompts of a length."""
        assert setting.steps is not None
        bias = self.bias.truncate(setting.steps)
        condition = self.condition(setting)
        strength: Strength | None = setting.strength if setting.strength is not None else condition
        return bias.logits_processor(length, strength, self._tokenizer)

    def condition(self, setting: Setting) -> Condition | None:
        """The bias's condition with a setting's low and high; None if it has none."""
        own = self.bias.condition
        if own is None:
            return None
        low = own.low if setting.low is None else setting.low
        return replace(own, low=low, high=own.high if setting.high is None else setting.high)

    def generate_both(
        self, ids: list[int], most: int, processor: LogitsProcessor, growing: Growing
    ) -> list[list[int]]:
        """Answer a prompt in two rows; returns the tokens of both, up to their ends."""
        with memory_errors(ids):
            rows, _ = generate_greedily(
                self._model, self._tokenizer, [ids, ids], most, [processor, Finite()],
                stops=[growing],
            )  # fmt: skip
        return [self.ended(row) for row in rows]

    def ended(self, row: list[int]) -> list[int]:
        """A row up to its end, without what is behind it."""
        return until_end(row, self._ends)

    def finish(self, row: list[int], most: int) -> Literal["", "stop", "length"]:
        """Why a row has ended; "" if it has not."""
        if row and row[-1] in self._ends:
            return "stop"
        return "length" if len(row) >= most else ""


class _Run:
    """One run of both answers: a thread that works, and what it has to show."""

    def __init__(self, engine: SideBySide, ids: list[int], setting: Setting, stop: Event) -> None:
        self._engine, self._ids, self._stop = engine, ids, stop
        room = setting.max_new_tokens if engine.context is None else engine.context - len(ids)
        self._most = min(setting.max_new_tokens, room)
        self._setting = setting
        self._watch = _Watch(engine.debias(len(ids), setting), len(ids), engine.condition(setting))
        self._texts = [_Pieces(engine), _Pieces(engine)]
        self._shown: SimpleQueue[Both | Exception] = SimpleQueue()

    def work(self) -> None:
        """Answer, and put what there is to show where `newest` finds it."""
        try:
            growing = Growing(len(self._ids), self._seen)
            rows = self._engine.generate_both(self._ids, self._most, self._watch, growing)
            self._shown.put(self._both(rows, ended=True))
        except Exception as error:
            self._shown.put(error)

    def newest(self) -> Both:
        """The newest that there is to show; waits for it."""
        found = self._shown.get()
        while not self._shown.empty():
            found = self._shown.get()
        if isinstance(found, Exception):
            raise found
        return found

    def _seen(self, rows: list[list[int]]) -> bool:
        self._shown.put(self._both([self._engine.ended(row) for row in rows], ended=False))
        return self._stop.is_set()

    def _both(self, rows: list[list[int]], *, ended: bool) -> Both:
        answers = []
        for number, row in enumerate(rows):
            finish: Literal["", "stop", "length", "stopped"] = self._engine.finish(row, self._most)
            if ended and not finish:
                finish = "stopped"
            texts = self._texts[number].of(row)
            moved = (step[number] for step in self._watch.moved)
            tokens = tuple(Token(*one) for one in zip(texts, moved, strict=False))
            answers.append(Answer(tokens, finish))
        first = tuple(
            Candidate(self._engine.decode([token]), before, after)
            for token, before, after in self._watch.first
        )
        strength, reading = self._setting.strength, self._watch.reading
        if strength is None:
            assert reading is not None
            strength = reading.strength
        assert self._setting.steps is not None
        return Both(answers[0], answers[1], strength, self._setting.steps, first, reading)


class _Watch(LogitsProcessor):
    """The rule for the second row of two, and a record of what it does to both.

    Attributes:
        moved: By step, the change of the chosen tokens' log-probability in either row, in nats.
        first: The likeliest tokens of the first step that the rule changes, or of step 0: id,
            probability before and after.
        reading: The condition's reading of the prompt, if there is one.
    """

    def __init__(self, debias: SafetyDebias, length: int, condition: Condition | None) -> None:
        self._debias, self._length, self._condition = debias, length, condition
        self._changed = False
        self.moved: list[list[float]] = []
        self.first: list[tuple[int, float, float]] = []
        self.reading: Reading | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores of both rows, the second one's debiased, [2, width]."""
        after = self._debias(input_ids, scores)
        if input_ids.shape[1] == self._length and self._condition is not None:
            condition = self._condition
            score, strength = condition.score(scores[:1]), condition.strength(scores[:1])
            labelled = condition.evidence.get("scores", {})
            self.reading = Reading(float(score), float(strength), labelled)
        shares = [one.float().log_softmax(-1) for one in (scores, after)]
        if not self._changed:
            self._changed = not torch.equal(scores, after)
            if self._changed or not self.first:
                self.first = _likeliest(shares[0][1].exp(), shares[1][1].exp())
        decoded = torch.cat([scores[:1], after[1:]])
        chosen = decoded.argmax(-1, keepdim=True)
        before, now = (one.gather(-1, chosen)[:, 0] for one in shares)
        self.moved.append((now - before).tolist())
        return decoded


def _likeliest(before: Tensor, after: Tensor) -> list[tuple[int, float, float]]:
    """The tokens that are likeliest before or after, with both probabilities."""
    found = torch.maximum(before, after).topk(min(CANDIDATES, len(before))).indices.tolist()
    return [(token, float(before[token]), float(after[token])) for token in found]


class _Pieces:
    """The texts that the tokens of a growing answer add, each decoded once."""

    def __init__(self, engine: SideBySide) -> None:
        self._decode = engine.decode
        self._whole = ""
        self._pieces: list[str] = []

    def of(self, ids: list[int]) -> list[str]:
        """One text per token; a character of several tokens is the last one's."""
        for number in range(len(self._pieces), len(ids)):
            whole = self._decode(ids[: number + 1])
            if whole.endswith("\ufffd"):  # bytes of a character of which some are to come
                whole = self._whole
            self._pieces.append(whole[len(self._whole) :])
            self._whole = whole
        return self._pieces[: len(ids)]


def open_side_by_side(
    model: Name, bias: Name, setting: Setting = Setting(), options: LoadOptions = LoadOptions()
) -> SideBySide:
    """Load a model and its bias, to be asked by `SideBySide.answer`.

    Args:
        model: Folder, hub id or shipped name of the model.
        bias: Folder or hub id of its safety bias.
        setting: Setting to start with.
        options: Options of loading the weights.

    Raises:
        TsdiError: If anything cannot be loaded or does not fit.
    """
    model, bias = as_name("model", model), as_name("bias", bias)
    tokenizer = load_tokenizer(model, options)
    vector = SafetyBias.from_pretrained(bias, tokenizer=tokenizer)
    vector.note_other(model)
    return SideBySide(load_model(model, options), tokenizer, vector, setting)
