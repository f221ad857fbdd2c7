"""A bias from one model by name: what may stand in for its reference is tried, and chosen from.

Labelled prompts are divided by a hash of their text. On one half every stand-in is estimated; on
the other it is scaled, the model answers with each, and a judge says which does best. What is
recommended is what gains there, or nothing.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tsdi.arguments import Name
from tsdi.bias import Estimation, SafetyBias
from tsdi.bias.examination import check_lengths
from tsdi.bias.refusal_log_odds import Phrases
from tsdi.decoding.prompt_states import PromptStates
from tsdi.engines.base import Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import MismatchError, ModelError, NumericalError, PromptError, UsageError
from tsdi.judging.registry import default_judge, load_judge
from tsdi.models.chat import ChatFormat, check_format, encode_chat, prompt_sha256
from tsdi.models.compatibility import check_reads
from tsdi.models.load import load_tokenizer
from tsdi.models.sides import load_side
from tsdi.runs.add_condition import find_phrases, to_labelled
from tsdi.runs.diagnosis_prompts import RealPrompts, with_case
from tsdi.runs.judged import judge_answers
from tsdi.runs.loading import Loading
from tsdi.runs.stage import StageProgress, counting
from tsdi.runs.stand_in_choice import Answered, Tried, choose
from tsdi.stand_ins.calibration import Calibrated, calibrate
from tsdi.stand_ins.names import OPENERS, PARTLY_ABLATED, SELF_CONTRAST
from tsdi.stand_ins.subject import ByKind, Subject
from tsdi.stand_ins.table import STAND_INS
from tsdi.suites.load import EVERYDAY, load_prompts
from tsdi.suites.prompts import Prompt, check_kinds, check_known
from tsdi.suites.split import distinct, divide

TRIED = (OPENERS, SELF_CONTRAST, PARTLY_ABLATED)
"""The stand-ins that are tried; the simplest comes first and wins ties."""
ANSWER_TOKENS = 32
_HALVES = {"fit": 0.5, "validation": 0.5}
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class OneModel:
    """A bias without a reference (`tsdi.stand_ins`).

    Attributes:
        labelled: Prompts with kinds, as for `tsdi.generate`, lookalikes among them.
        constant: How stand-ins are estimated on random prompts.

    Raises:
        UsageError: If it is to begin behind a marker.
    """

    labelled: Name = EVERYDAY
    constant: Estimation = Estimation()

    def __post_init__(self) -> None:
        if self.constant.anchor or self.constant.reference_format is not None:
            raise UsageError(
                "A marker, and a format of the reference's own, need a reference.",
                "Name it, or leave them out.",
            )


@dataclass(frozen=True)
class _Halves:
    """Labelled prompts, for estimates and for the choice among them."""

    fit: list[Prompt]
    validation: list[Prompt]

    @classmethod
    def read(cls, asked: OneModel) -> "_Halves":
        prompts = load_prompts(asked.labelled, asked.constant.seed).prompts
        check_kinds(prompts)
        prompts = distinct(prompts)
        found = cls(**divide(prompts, _HALVES))
        _LOG.info(
            "No reference: %d of the %d prompts of %s are for estimates, the others for the choice"
            " among them.",
            len(found.fit),
            len(prompts),
            str(asked.labelled),
        )
        return found


def estimate_one(
    model: str,
    asked: OneModel,
    phrases: Phrases | None,
    loading: Loading,
    out: Path,
    progress: StageProgress | None,
) -> SafetyBias:
    """Estimate the biases of what may stand in for a reference, and choose one.

    Args:
        model: The model's name.
        asked: Labelled prompts and settings.
        phrases: Beginnings of refusing and complying answers; None is English, or what the model's
            own answers show.
        loading: Options of loading and running the model.
        out: Folder for partial results.
        progress: As for `tsdi.estimate`.

    Returns:
        The best stand-in's bias, scaled, with a diagnosis that says what was tried; its strength is
        1 where it clearly gains, and loses no safety, on the half that it was chosen on, else 0.

    Raises:
        PromptError: If there are too few prompts of a kind, or nothing can stand in.
        TsdiError: If anything cannot be loaded, or does not fit.
    """
    tokenizer = load_tokenizer(model, loading.options)
    how = asked.constant
    check_format(tokenizer, how.chat)
    halves = _Halves.read(asked)
    check_known([*halves.fit, *halves.validation], tokenizer)
    fit, validation = (
        ids_by_kind(half, tokenizer, how.chat) for half in (halves.fit, halves.validation)
    )
    labelled = [
        to_labelled(prompt, encode_chat(tokenizer, prompt.messages, how.chat))
        for prompt in (*halves.fit, *halves.validation)
    ]
    side, size = load_side(model, loading.options), loading.batch_size
    with side.open() as loaded:
        rows = [("labelled", one.ids) for one in labelled]
        check_reads(loaded, tokenizer)
        check_lengths(loaded, rows, max(how.steps, ANSWER_TOKENS))  # before the long work
        phrases = phrases or find_phrases(loaded, tokenizer, labelled[: len(halves.fit)])
    counted = counting(progress, "estimate, model and stand-in", 2 * how.prompts)
    subject = Subject(side, tokenizer, fit, validation, how, phrases, size, out, counted)
    calibrated, left_out = _calibrated(subject)
    plain, *answered = answers_with(subject, halves.validation, [*calibrated.values()], progress)
    tried = {
        name: Tried(one, found)
        for (name, one), found in zip(calibrated.items(), answered, strict=True)
    }
    bias = choose(subject, plain, tried, left_out, [prompt_sha256(one.ids) for one in labelled])
    return with_case(bias, side, tokenizer, RealPrompts({}, {}, labelled, phrases), size)


def ids_by_kind(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, chat: ChatFormat
) -> ByKind:
    """Prompts as token ids by kind."""
    found: dict[str, list[list[int]]] = {}
    for prompt in prompts:
        found.setdefault(prompt.kind, []).append(encode_chat(tokenizer, prompt.messages, chat))
    return found


def _calibrated(subject: Subject) -> tuple[dict[str, Calibrated], dict[str, str]]:
    """The stand-ins of `TRIED` for a model, scaled; and why others do not apply to it."""
    found: dict[str, SafetyBias] = {}
    left_out: dict[str, str] = {}
    for name in TRIED:
        try:
            found[name] = STAND_INS[name].estimate(subject)
        except MismatchError:  # of a checkpoint
            raise
        except (PromptError, ModelError, NumericalError) as error:
            _LOG.info("%s does not apply: %s", STAND_INS[name].title, error.problem)
            left_out[name] = error.problem
            last = error
    if not found:
        raise last
    return dict(zip(found, calibrate(subject, list(found.values())), strict=True)), left_out


def answers_with(
    subject: Subject,
    prompts: Sequence[Prompt],
    calibrated: Sequence[Calibrated],
    progress: StageProgress | None,
) -> list[Answered]:
    """Judged answers of the model as it is, and with each bias."""
    judge = load_judge(default_judge(prompt.messages[-1]["content"] for prompt in prompts))
    chat, sampling = subject.settings.chat, Sampling(ANSWER_TOKENS)
    counted = counting(progress, "choose, answers", (1 + len(calibrated)) * len(prompts))
    found = []
    with subject.side.open() as model:
        states = PromptStates(model)
        for bias in (None, *(one.bias for one in calibrated)):
            engine = TransformersEngine(model, subject.tokenizer, bias, 1.0, chat, states)
            judged = []
            for start in range(0, len(prompts), subject.batch_size):
                part = prompts[start : start + subject.batch_size]
                judged += judge_answers(engine, judge, part, sampling)
                counted(len(part))
            harmful = [prompt.kind == "harmful" for prompt in prompts]
            found.append(Answered.of(judged, harmful))
    return found
