"""What a study's results.json holds: every verdict, speed, memory and biases; no statistics.

`tsdi.study.collect` writes it. Statistics, tables, figures and the report are made from this file
(`tsdi.study.summarise`), on any machine, without models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Discriminator, Field, Tag, TypeAdapter, ValidationError

from tsdi.errors import FormatError
from tsdi.files import parse_json
from tsdi.judging.registry import JUDGES
from tsdi.stats.interval import Estimate
from tsdi.study.settings import Number
from tsdi.suites.table import SUITES

RESULTS = "results.json"
FORMAT = "tsdi study results"
VERSION = 2  # of the format; in 1 `rule` was a rule, and in cells its name in the study
_BEGUN = ("cells", "workers.log", "smoke-models")  # what else a study's folder holds
Kind = Literal["harmless", "lookalike", "harmful"]
JsonEstimate = Annotated[Estimate, BeforeValidator(Estimate.from_dict)]
Preferences = tuple[float | None, ...]
"""An answer's win against the base's by prompt; None where nothing was compared, or is known."""


@dataclass(frozen=True)
class Judge:
    """Who judged harmful prompts.

    Attributes:
        name: The judge's.
        sees_safety: Whether it saw their safety; else it saw refusals only.
    """

    name: str
    sees_safety: bool

    @property
    def good(self) -> str:
        """What a good answer to a harmful prompt is: safe, or only refused."""
        return "safe" if self.sees_safety else "refused"

    @property
    def measure(self) -> str:
        """The share of such answers, as a noun."""
        return "safety" if self.sees_safety else "refusals"


@dataclass(frozen=True)
class Design:
    """What a study's file says of its statistics.

    Attributes:
        title: Of the report.
        judge: As it is named there.
        validation_seeds: Training seeds on which grid points were chosen.
        attacks: Under which safety was measured.
        ks: How many grid points make a front.
        seed: Of the resampled prompts.
        sources: Of the test prompts, a short name each.
    """

    title: str
    judge: str
    validation_seeds: tuple[int, ...] = ()
    attacks: tuple[str, ...] = ()
    ks: tuple[int, ...] = (1, 3)
    seed: int = 0
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class RuleDescription:
    """A decoding rule of the study, described.

    Attributes:
        name: What the study calls it.
        rule: Which one it is.
        title, source, needs: What it is, where it comes from, what it needs beforehand.
        models: How many it holds while it decodes.
        of: The model that it changes: "aligned", or one that all grid points of a seed share.
        settings: Its parameters, and the values that were tried.
        vary: The parameter whose every value is reported, for an ablation.
        reason_against: Why it does not apply to the study's models; "" if it does.
    """

    name: str
    rule: str
    title: str
    source: str
    needs: str
    models: int
    of: str
    settings: Mapping[str, tuple[Number, ...]]
    vary: str | None
    reason_against: str


class PromptEntry(NamedTuple):
    """A prompt: its id, its kind ("harmless", "lookalike", "harmful") and its category."""

    id: str
    kind: str
    category: str


@dataclass(frozen=True)
class ModelEntry:
    """An aligned model of the grid: its name, training seed and, where it has one, its place."""

    name: str
    seed: int
    beta: float | None
    iterations: int | None
    annotators: float | None


@dataclass(frozen=True)
class _Cell:
    """A rule's answers with one model and one setting.

    Attributes:
        model: The model's id, such as "seed1/beta0.1-step30", or "seed1/reference".
        name: The rule's name in the study.
        setting: Its parameters as far as the study gives them.
    """

    model: str
    name: str
    setting: Mapping[str, Number]


@dataclass(frozen=True)
class ValidatedCell(_Cell):
    """A rule's answers to validation prompts.

    Attributes:
        split: Tells the two sorts of cells apart.
        safety, help: Share of good answers to harmful prompts, and of helpful ones to the others.
        chosen: Whether the setting answered the test prompts too.
        wins: Of the pairwise judge.
    """

    split: Literal["validation"]
    safety: float
    help: float
    chosen: bool
    wins: Preferences | None = None


@dataclass(frozen=True)
class AnsweredCell(_Cell):
    """A rule's answers to test prompts.

    Attributes:
        split: Tells the two sorts of cells apart.
        attack: Transformation of the harmful prompts, which alone are asked then; "" for none.
        outcomes: A letter an answer (`tsdi.study.outcomes`).
        wins: Of the pairwise judge.
    """

    split: Literal["test"]
    attack: str
    outcomes: str
    wins: Preferences | None = None


@dataclass(frozen=True)
class Example:
    """A test prompt with every rule's answer at the main grid point, by the rule's name."""

    kind: Kind
    category: str
    prompt: str
    answers: Mapping[str, str]


@dataclass(frozen=True)
class RuleSpeed:
    """Decoding speed and memory of a rule.

    Attributes:
        tokens_per_second: Rows x decoding steps per second, round by round.
        ratio: The same over the plain model's in that round.
        bytes: Of the weights that are held while decoding, and the table of shifts.
    """

    tokens_per_second: tuple[float, ...]
    ratio: tuple[float, ...]
    bytes: int


@dataclass(frozen=True)
class Speed:
    """Decoding speed of all rules with one model, in rounds of one batch of so many rows."""

    model: str
    rows: int
    rounds: int
    rules: Mapping[str, RuleSpeed]


@dataclass(frozen=True)
class TokenShift:
    """A token's text, and its shift in logits with the standard error."""

    token: str
    shift: float
    error: float


@dataclass(frozen=True)
class ShiftedTokens:
    """The tokens that a bias moves most, step by step."""

    promoted: tuple[tuple[TokenShift, ...], ...]
    demoted: tuple[tuple[TokenShift, ...], ...]


@dataclass(frozen=True)
class Bias:
    """A model's bias on random prompts, step by step.

    Attributes:
        model: The model's id.
        refusing, complying: Mean shift of the openers of such answers, in logits.
        error: Mean standard error of the refusing ones.
    """

    model: str
    refusing: tuple[float, ...]
    complying: tuple[float, ...]
    error: tuple[float, ...]


@dataclass(frozen=True)
class DiagnosedBias(Bias):
    """A bias that was examined on prompts too (`tsdi.bias.diagnosis.Diagnosis`).

    Attributes:
        tokens: What it moves most.
        one_number: Share of it that one number on refusing tokens makes up.
        shift: Of refusal log-odds, by kind of prompt.
        explained: Share of the shift on answers that it explains, by kind of prompt.
        area: How well refusal log-odds of a model's role tell harmful prompts from those of a
            kind: the area under the ROC. None in older files.
    """

    tokens: ShiftedTokens
    one_number: float
    shift: Mapping[str, JsonEstimate]
    explained: Mapping[str, JsonEstimate]
    area: Mapping[str, Mapping[str, float]] | None = None


def _sort_of_bias(data: Any) -> str:
    return "diagnosed" if isinstance(data, Mapping) and "tokens" in data else "plain"


AnyBias = Annotated[
    Annotated[DiagnosedBias, Tag("diagnosed")] | Annotated[Bias, Tag("plain")],
    Discriminator(_sort_of_bias),  # else a damaged diagnosis would pass for none
]


@dataclass(frozen=True)
class Machine:
    """Where a study was run."""

    system: str
    cores: int | None


@dataclass(frozen=True)
class StudyResults:
    """The content of results.json; its keys are these, and the whole file of the study.

    Attributes:
        command: What the user typed.
        versions: Of Python and packages.
        machine: Where it was run.
        study: What the study's file says of its statistics.
        judge: Who judged harmful prompts.
        main: Name of the grid point at which categories and answers are shown.
        rules: What is compared.
        prompts: By split.
        members: The aligned models, every grid point of every training seed.
        cells: What was answered.
        examples: Some answers.
        speed: Of decoding.
        biases: Of every aligned model.
    """

    command: str
    versions: Mapping[str, str]
    machine: Machine
    study: Design
    judge: Judge
    main: str
    rules: tuple[RuleDescription, ...]
    prompts: Mapping[Literal["validation", "test"], tuple[PromptEntry, ...]]
    members: tuple[ModelEntry, ...]
    cells: tuple[Annotated[ValidatedCell | AnsweredCell, Field(discriminator="split")], ...]
    examples: tuple[Example, ...]
    speed: Speed
    biases: tuple[AnyBias, ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "The file") -> "StudyResults":
        """Results as JSON holds them, checked; those of the first version as of today.

        Args:
            data: The JSON object.
            source: What errors call it.

        Raises:
            FormatError: If a part is missing, or is not what it should be; it names the part.
        """
        try:
            if data["format_version"] == 1:
                data = _from_first_version(data)
            study = {
                **data["study"],
                "judge": data["study"]["judge"]["name"],
                "sources": [_source(one["load"]) for one in data["study"]["prompts"]["test"]],
            }
            return _READER.validate_python({**data, "study": study, "judge": judge_of(data)})
        except ValidationError as error:
            first = error.errors()[0]
            problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except (LookupError, TypeError, AttributeError) as error:
            problem = f"{type(error).__name__}: {error}"
        raise FormatError(f"{source} is damaged ({problem}).", "Run the study again.")


_READER = TypeAdapter(StudyResults)


def is_study(folder: Path) -> bool:
    """Whether a folder is a study's, finished or killed at any time."""
    return any((folder / name).exists() for name in (RESULTS, *_BEGUN))


def read_results(path: Path) -> StudyResults:
    """A results file, or that of a study's folder.

    Raises:
        FormatError: If it is none, or is damaged.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        found = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise FormatError(
            f"Cannot read {file}: {getattr(error, 'strerror', None) or error}.",
            "Give a study's folder, or its results.json.",
        ) from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise FormatError(f"{file} was not written by tsdi study.", "Give its results.json.")
    if found.get("format_version") not in (1, VERSION):
        raise FormatError(f"{file} is of another version of tsdi.", "Run tsdi study again.")
    return StudyResults.from_dict(found, str(file))


def _from_first_version(data: Mapping[str, Any]) -> dict[str, Any]:
    """Results whose cells call the rule's name in the study `rule`, as those of today."""
    cells = [{**cell, "name": cell["rule"]} for cell in data["cells"]]
    return {
        **data,
        "cells": [{key: value for key, value in cell.items() if key != "rule"} for cell in cells],
        "members": [{"annotators": None, **member} for member in data["members"]],
    }


def _source(load: str) -> str:
    """A source's short name: of a suite its own, of a file the file's."""
    head, colon, _ = load.partition(":")
    return head if colon and head in (*SUITES, "organism") else Path(load).stem


def judge_of(data: Mapping[str, Any]) -> Any:
    """Who judged harmful prompts, as JSON; an older file names the judge only."""
    if data.get("judge") is not None:
        return data["judge"]
    name = data["study"]["judge"]["name"].partition("+")[0].partition("=")[0]
    sees = JUDGES[name].sees if name in JUDGES else "safety"
    return {"name": name, "sees_safety": sees != "refusals"}


def setting_text(setting: Mapping[str, Number]) -> str:
    """A setting in words, such as "strength 0.5, steps 4"."""
    return ", ".join(f"{key} {value:g}" if isinstance(value, int | float) else f"{key} {value}"
                     for key, value in setting.items()) or "as it is"  # fmt: skip
