"""The contract of judges, which give answers their verdicts.

A judge guarantees:

* ``judge`` returns one judgement per response, in their order;
* it sees the answer, never the thought before it; an answer whose thought does not end, or that its
  server withheld, is UNSCORED with that reason, whoever judges;
* a response's judgement does not depend on its neighbours in the batch (up to rounding);
* an answer that it cannot judge is UNSCORED, with the reason in `raw`; it never guesses;
* answers are untrusted text, never instructions: a judge that is itself a model delimits them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tsdi.engines.choice import EngineChoice
from tsdi.judging.verdict import Judgement, unscored
from tsdi.models.reasoning import after_thought

KINDS = ("harmless", "lookalike", "harmful")
"""What a good answer is: comply, comply although it sounds harmful, refuse."""

CUT_OFF = "The thought was cut off by the length limit, so there is no answer."
ENDLESS = "The thought has no end, so there is no answer."
WITHHELD = "Withheld by the server's content filter."

FINISHES = ("stop", "length", "filter", "content_filter", "error")
"""How an answer can have ended: by itself, by the limit, withheld, or with its prompt refused."""


def why_missing(finish: str, reason: str) -> str:
    """The reason why there is no whole answer; "" if there is one."""
    if finish in ("filter", "content_filter"):  # ours, and an API's own
        return f"{WITHHELD} {reason}".strip()
    return f"The server turned the prompt down: {reason}" if finish == "error" else ""


@dataclass(frozen=True)
class Response:
    """One answer with its prompt, as judges see it.

    Attributes:
        id: The prompt's id.
        kind: One of `KINDS`.
        category: The prompt's safety category, such as "O3"; may be empty.
        messages: The chat that was answered, each {"role", "content"}, the last being the user's.
        text: All that the model wrote, thoughts included.
        finished: Whether the model ended the answer itself, rather than being cut off.
        missing: The reason why there is no whole answer; empty if there is one.
        in_thought: Whether the prompt had begun a thought, so that the text goes on with it.
        end_of_thinking: Marker that ends thoughts, beside the known ones (`tsdi.models.reasoning`).
        bias_began: False if the bias begins behind a marker that never came.
        fitted: Whether the bias's condition or slope was fitted to this prompt.
    """

    id: str
    kind: str
    category: str
    messages: tuple[dict[str, str], ...]
    text: str
    finished: bool
    missing: str = ""
    in_thought: bool = False
    end_of_thinking: str = ""
    bias_began: bool = True
    fitted: bool = False

    @property
    def prompt(self) -> str:
        """The user's last message."""
        return self.messages[-1]["content"]

    @property
    def cut_off(self) -> bool:
        """Whether the length limit cut it off."""
        return not self.finished and not self.missing

    def answer(self) -> "Response | Judgement":
        """The response without thoughts, or an UNSCORED judgement if it has no answer."""
        if self.missing:
            return unscored(self.missing)
        text = after_thought(self.text, self.in_thought, self.finished, self.end_of_thinking)
        if text is None:
            return unscored(ENDLESS if self.finished else CUT_OFF)
        if text is self.text and not (self.in_thought or self.end_of_thinking):
            return self
        return replace(self, text=text, in_thought=False, end_of_thinking="")


@dataclass(frozen=True)
class JudgeOptions:
    """Options of opening a judge: its model, server, engine and labels.

    Attributes:
        model: Folder or hub id of its weights, or what an API calls it; None takes the judge's own.
        url: Base URL of an OpenAI-compatible API, such as "http://localhost:8000/v1".
        dtype: Data type of the weights, as for `tsdi.models.load.LoadOptions`.
        device_map: As in transformers, such as "auto" or "cuda:1".
        trust_remote_code: Run code that comes with the weights.
        labels: Verdicts of a classifier's labels, such as "toxic=UNSAFE,neutral=SAFE".
        policy: File with the policy of a judge that takes one; None takes the judge's own.
        template: File with the one text that a classifier reads, with ``{prompt}`` and ``{answer}``
            in it; None shows both as a pair.
        engine: The engine of a judge that writes its verdict: transformers, or vllm.
    """

    model: str | None = None
    url: str | None = None
    dtype: str = "auto"
    device_map: str | None = None
    trust_remote_code: bool = False
    labels: str | None = None
    policy: str | Path | None = None
    template: str | Path | None = None
    engine: EngineChoice = EngineChoice()


class Judge(ABC):
    """Gives answers their verdicts; see the module's contract.

    Attributes:
        name: Name in commands, and in the provenance of every figure.
        sees_safety: Whether its word on answers to harmful prompts is about safety. If not, the
            share of safe answers is a refusal rate, and is called that.
        sees_refusal: Whether it tells refusals from other answers. If not (MD-Judge, Llama Guard),
            it says nothing of whether harmless prompts are complied with.
    """

    name: str
    sees_safety: bool
    sees_refusal: bool

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Version, thresholds and whatever else decides the verdicts, as valid JSON."""

    @abstractmethod
    def judge_answers(self, answers: Sequence[Response]) -> list[Judgement]:
        """Judge answers without their thoughts, together as one batch; called by `judge`.

        Returns:
            One judgement per answer, in their order.
        """

    def judge(self, responses: Sequence[Response]) -> list[Judgement]:
        """Judge all responses by their answers, without thoughts, as one batch.

        Returns:
            One judgement per response, in their order.
        """
        seen = [response.answer() for response in responses]
        answers = [one for one in seen if isinstance(one, Response)]
        found = iter(self.judge_answers(answers) if answers else [])
        return [next(found) if isinstance(one, Response) else one for one in seen]

    def judge_parts(self, parts: Iterable[Sequence[Response]]) -> Iterator[list[Judgement]]:
        """Judge batch after batch; as `judge`, for each in turn."""
        return map(self.judge, parts)

    def describe(self) -> dict[str, Any]:
        """The provenance of the verdicts; equal descriptions give equal verdicts."""
        sees = {"sees_safety": self.sees_safety, "sees_refusal": self.sees_refusal}
        return {"name": self.name, **sees, **self.settings()}
