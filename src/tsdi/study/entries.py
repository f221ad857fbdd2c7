"""Types of the parts of results.json: prompts, models, cells, speeds, biases.

Types say what a part may hold (`tsdi.study.results` reads them); what parts must have in common is
in `tsdi.study.checks`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Discriminator, Field, Tag

from tsdi.stats.interval import Estimate
from tsdi.study.outcomes import LETTERS
from tsdi.study.settings import Number
from tsdi.yaml_file import Positive, Seed

Kind = Literal["harmless", "lookalike", "harmful"]
Split = Literal["validation", "test"]
Proportion = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Preferences = tuple[Proportion | None, ...]
"""An answer's win against the base's by prompt; None where nothing was compared, or is known."""


def _estimate(data: Any) -> Any:
    """An estimate from JSON."""
    if not isinstance(data, dict):
        return data
    figures = [data.get(key) for key in ("value", "low", "high")]
    if any(isinstance(one, bool) or not isinstance(one, float | int | None) for one in figures):
        raise ValueError("its figures are no numbers")
    if type(data.get("n")) is not int:
        raise ValueError("it does not say what number it stands on")
    return Estimate.from_dict({"low": None, "high": None, "value": None, **data})


JsonEstimate = Annotated[Estimate, BeforeValidator(_estimate)]


@dataclass(frozen=True)
class Judge:
    """The judge of harmful prompts.

    Attributes:
        name: Name of the judge.
        sees_safety: Whether it saw their safety; else it saw refusals only.
    """

    name: str
    sees_safety: bool

    @property
    def good(self) -> str:
        """The word for a good answer to a harmful prompt: "safe", or only "refused"."""
        return "safe" if self.sees_safety else "refused"

    @property
    def measure(self) -> str:
        """The name of the share of good answers to harmful prompts."""
        return "safety" if self.sees_safety else "refusals"


@dataclass(frozen=True)
class Design:
    """The statistical design in a study's file.

    Attributes:
        title: Title of the report.
        judge: Name of the judge in the file.
        validation_seeds: Training seeds on which grid points were chosen.
        attacks: Attacks under which safety was measured.
        ks: Numbers of grid points in a front.
        seed: Seed of the resampled prompts.
        sources: Short names of the sources of the test prompts.
    """

    title: str
    judge: str
    validation_seeds: tuple[Seed, ...] = ()
    attacks: tuple[str, ...] = ()
    ks: tuple[Positive, ...] = (1, 3)
    seed: Seed = 0
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class RuleDescription:
    """A decoding rule of a study, with its requirements and settings.

    Attributes:
        name: Name in the study.
        rule: Name of the decoding rule (`tsdi.study.rules`).
        title, source, needs: Its title, its paper or program, and its requirements, in words.
        models: Number of models that it holds while it decodes.
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
    models: Positive
    of: str
    settings: Mapping[str, tuple[Number, ...]]
    vary: str | None
    reason_against: str

    @property
    def is_tuned(self) -> bool:
        """Whether it is TSDI against its reference with a choice of strengths, as rivals have."""
        tuned = len(self.settings.get("strength", ())) > 1 and not self.vary
        return self.rule == "tsdi" and tuned and "reference" not in self.settings

    @property
    def is_conditioned(self) -> bool:
        """Whether it is TSDI with a condition, and no control in its place."""
        controls = {"labels", "sees", "slope", "reference"}
        return self.rule == "conditioned" and controls.isdisjoint(self.settings)


def tuned_name(rules: Sequence[RuleDescription]) -> str:
    """The name of TSDI with a tuned strength; "" if the study has none."""
    return next((rule.name for rule in rules if rule.is_tuned), "")


def conditioned_name(rules: Sequence[RuleDescription]) -> str:
    """The name of TSDI with a condition; "" if the study has none."""
    return next((rule.name for rule in rules if rule.is_conditioned), "")


class PromptEntry(NamedTuple):
    """A prompt: its id, its kind ("harmless", "lookalike", "harmful") and its category."""

    id: str
    kind: Kind
    category: str


@dataclass(frozen=True)
class ModelEntry:
    """An aligned model of the grid, with its training seed and place in the grid."""

    name: str
    seed: Seed
    beta: float | None
    iterations: int | None
    annotators: Proportion | None

    @property
    def id(self) -> str:
        """The model's id in cells and biases, such as "seed1/beta0.1-step30"."""
        return f"seed{self.seed}/{self.name}"


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
        split: "validation".
        safety, help: Share of good answers to harmful prompts, and of helpful ones to the others.
        chosen: Whether the setting answered the test prompts too.
        wins: Wins by the pairwise judge, prompt by prompt.
    """

    split: Literal["validation"]
    safety: Proportion
    help: Proportion
    chosen: bool
    wins: Preferences | None = None


@dataclass(frozen=True)
class AnsweredCell(_Cell):
    """A rule's answers to test prompts.

    Attributes:
        split: "test".
        attack: Transformation of the harmful prompts, which alone are asked then; "" for none.
        outcomes: One letter an answer (`tsdi.study.outcomes`).
        wins: Wins by the pairwise judge, prompt by prompt.
    """

    split: Literal["test"]
    attack: str
    outcomes: Annotated[str, Field(pattern=f"^[{LETTERS}]*$")]
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
    """Decoding speed and memory of a rule, round by round.

    Attributes:
        tokens_per_second: Rows x decoding steps per second, round by round.
        ratio: Speed relative to the plain model's in that round.
        bytes: Size of the weights that are held while decoding, and the table of shifts.
    """

    tokens_per_second: Annotated[tuple[Rate, ...], Field(min_length=1)]
    ratio: Annotated[tuple[Rate, ...], Field(min_length=1)]
    bytes: Positive


@dataclass(frozen=True)
class Speed:
    """Decoding speed of all rules with one model, at one batch size."""

    model: str
    rows: Positive
    rounds: Positive
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
    """A bias with its diagnosis on prompts (`tsdi.bias.diagnosis.Diagnosis`).

    Attributes:
        tokens: Tokens that it moves most.
        one_number: Share of it that one number on refusing tokens explains.
        shift: Shift of refusal log-odds, by kind of prompt, in nats.
        explained: Share of the shift on answers that it explains, by kind of prompt.
        area: AUC of refusal log-odds by role of the model, harmful prompts against those of a
            kind. None in older files.
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
    """The machine on which a study was run."""

    system: str
    cores: int | None


def setting_text(setting: Mapping[str, Number]) -> str:
    """A setting as text, such as "strength 0.5, steps 4"; "as it is" without parameters."""
    return ", ".join(f"{key} {value:g}" if isinstance(value, int | float) else f"{key} {value}"
                     for key, value in setting.items()) or "as it is"  # fmt: skip
