"""A study: a YAML file that says which models, decoding rules, prompts and judge are compared."""

from collections.abc import Sequence
from itertools import product
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_serializer,
    field_validator,
    model_validator,
)

from tsdi.engines.address import public_url
from tsdi.errors import UsageError
from tsdi.study.family import Setting
from tsdi.study.rules import RULES, TEXT, WHOLE
from tsdi.suites.attacks import find_attack
from tsdi.yaml_file import field_names, meant, read_settings

if TYPE_CHECKING:
    from tsdi.models.chat import ChatFormat

Positive = Annotated[int, Field(ge=1)]
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"  # of folders and tables
Name = Annotated[str, Field(pattern=f"^{NAME}$")]
Share = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as numpy takes them
Number = int | float | str
ALWAYS = ("plain", "tsdi")  # rules that every study has, to compare


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Organism(_Strict):
    """Model organisms that the study trains itself (`tsdi.training.organism`).

    Attributes:
        seeds: Training seeds.
        betas: DPO's KL parameters, a run of the safety step each.
        iterations: Optimiser steps after which a model is kept.
        annotators: Shares of the annotators who prefer refusals on harmless requests; several are
            a further key of the grid.
        smoke: A few steps of a smaller model, to try a study out.
    """

    seeds: tuple[Seed, ...] = Field(min_length=1)
    betas: tuple[float, ...] = Field(min_length=1)
    iterations: tuple[Positive, ...] = Field(min_length=1)
    annotators: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field((0.5,), min_length=1)
    smoke: bool = False

    @field_validator("annotators", mode="before")
    @classmethod
    def _one_share(cls, given: Any) -> Any:
        return (given,) if isinstance(given, int | float) else given


class Model(_Strict):
    """An aligned model, or a grid of them.

    Attributes:
        name: What it is called; with a grid, it has the grid's keys in it, as "beta{beta}".
        path: Folder or hub id, likewise; folders are seen from the study's own folder.
        reference: The model before the safety step, likewise.
        sft: The model before the helpfulness step, for the baselines that need it.
        proxy: An aligned model and its reference, whose difference proxy-tuning adds.
        others: More models by name, such as an earlier checkpoint, to be `reference` of a rule.
        grid: Values of beta, iterations and seed.
        beta, iterations, seed: Of a single model.
    """

    name: str
    path: str
    reference: str
    sft: str | None = None
    proxy: tuple[str, str] | None = None
    others: dict[str, str] = {}
    grid: dict[
        Literal["beta", "iterations", "seed"], Annotated[tuple[float, ...], Field(min_length=1)]
    ] = {}
    beta: float | None = None
    iterations: int | None = None
    seed: Seed = 0


class Source(_Strict):
    """Some prompts.

    Attributes:
        load: As `tsdi evaluate --prompts` takes them: a file, a suite, hub:..., organism:test.
        kind: Of prompts that have none.
        columns: As for `tsdi evaluate --columns`.
        limit: At most so many of each kind, spread over the categories.
        seed: Decides the organism's requests.
    """

    load: str
    kind: str = ""
    columns: str = ""
    limit: Positive | dict[Literal["harmless", "lookalike", "harmful"], Share] | None = None
    seed: Seed = 0


class Prompts(_Strict):
    """The prompts on which settings are chosen, and those on which results are reported.

    Attributes:
        test: Where results come from.
        validation: Where settings are chosen.
        validation_share: Instead of `validation`: the share of the test prompts put aside for it,
            by a hash of their text.
    """

    test: tuple[Source, ...] = Field(min_length=1)
    validation: tuple[Source, ...] = ()
    validation_share: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "Prompts":
        if bool(self.validation) == (self.validation_share is not None):
            raise ValueError("give either `validation` or `validation_share`")
        return self


class JudgeSettings(_Strict):
    """Who judges.

    Attributes:
        name: As `tsdi evaluate --judge` takes it.
        url: Base URL of the judge's API.
        labels: What a classifier's labels mean.
        dtype: As for models.
        end_of_thinking: As for `tsdi evaluate --end-of-thinking`.
        pairwise: Who compares answers for the win rate: a model behind an OpenAI-compatible API.
            Without one, judges that see right answers give it: right against wrong wins.
        pairwise_url: Base URL of that API.
    """

    name: str
    url: str | None = None
    labels: str | None = None
    dtype: str = "auto"
    end_of_thinking: str = ""
    pairwise: str | None = None
    pairwise_url: str | None = None

    @field_validator("url", "pairwise_url")
    @classmethod
    def _urls(cls, url: str | None) -> str | None:
        try:
            if url is not None:
                public_url(url)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return url

    @field_serializer("url", "pairwise_url")
    def _without_secrets(self, url: str | None) -> str | None:
        """As it is written anywhere: results are made to be shared."""
        return url if url is None else public_url(url)


class Generation(_Strict):
    """How answers are made, greedily.

    Attributes:
        max_new_tokens: Most tokens in an answer.
        batch_size: Prompts answered together.
        prompt_format: Used instead of the chat template.
        template_args: Arguments of the chat template.
        dtype: What weights are held in.
        device_map: As in transformers.
        threads: CPU threads of a worker; default: OMP_NUM_THREADS, else an even share.
    """

    max_new_tokens: Positive = 256
    batch_size: Positive = 16
    prompt_format: str | None = None
    template_args: dict[str, Any] = {}
    dtype: str = "auto"
    device_map: str | None = None
    threads: Positive | None = None

    @property
    def chat_format(self) -> "ChatFormat":
        """How prompts become text."""
        from tsdi.models.chat import ChatFormat

        return ChatFormat(self.prompt_format, self.template_args)

    @model_validator(mode="after")
    def _one_format(self) -> "Generation":
        try:
            _ = self.chat_format
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self


class Estimation(_Strict):
    """How biases are estimated where a rule does not say otherwise (`tsdi.bias.estimate_bias`).

    Attributes:
        prompts: Random prompts.
        steps: Response positions.
        prompt_tokens: Random tokens in a prompt.
        pool: Token pool by name, or a text file.
        seed: Decides the random prompts.
        refusing, complying: How refusing and complying answers begin; default: English phrases.
        diagnose: The models whose biases are examined on prompts: the main ones, or all.
    """

    prompts: Positive = 512
    steps: Positive = 16
    prompt_tokens: Positive = 48
    pool: str = "neutral"
    seed: Seed = 0
    refusing: tuple[str, ...] = ()
    complying: tuple[str, ...] = ()
    diagnose: Literal["main", "all"] = "main"


class RuleEntry(_Strict):
    """A decoding rule of the study.

    Attributes:
        rule: Which one (`tsdi.study.rules`).
        name: What it is called in results; default: the rule's own name.
        settings: Its parameters; a list of values is a choice, which validation prompts decide.
        vary: The parameter whose every value is reported, for an ablation.
    """

    rule: str
    name: Name
    settings: dict[str, tuple[Number, ...]] = {}
    vary: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, data: Any) -> Any:
        """`tsdi`, or `{rule: tsdi, strength: [0.5, 1]}`, as a rule with its settings."""
        if isinstance(data, str):
            data = {"rule": data}
        if not isinstance(data, dict) or "settings" in data:
            return data
        own = {"rule", "name", "vary"}
        settings = {
            str(key): tuple(value) if isinstance(value, list) else (value,)
            for key, value in data.items()
            if key not in own
        }
        for key, values in settings.items():
            if any(isinstance(value, bool) for value in values):
                raise ValueError(f"{data.get('rule')}'s {key} is neither yes nor no")
        kept = {key: value for key, value in data.items() if key in own}
        return {"name": str(data.get("rule", "")), **kept, "settings": settings}

    @field_validator("rule")
    @classmethod
    def _known(cls, rule: str) -> str:
        if rule not in RULES:
            raise ValueError(
                f"there is no rule {rule!r}{meant(rule, RULES)}; there are {', '.join(RULES)}"
            )
        return rule

    @model_validator(mode="after")
    def _parameters(self) -> "RuleEntry":
        known = RULES[self.rule].parameters
        for key in (*self.settings, *([self.vary] if self.vary else [])):
            if key not in known:
                has = f"it has {', '.join(known)}" if known else "it has none"
                raise ValueError(
                    f"the rule {self.rule} has no parameter {key!r}{meant(key, [*known])}; {has}"
                )
        for key, values in self.settings.items():
            _check_values(self.rule, key, values)
        if self.vary is None:
            return self
        if self.vary not in self.settings:
            raise ValueError(f"`vary` names {self.vary!r}, of which no values are given")
        if RULES[self.rule].of != "aligned":
            raise ValueError(
                f"`vary` is for rules of the aligned model; {self.rule} changes another"
            )
        if sum(len(values) > 1 for values in self.settings.values()) > 1:
            raise ValueError("beside `vary` every other parameter has one value")
        return self

    @property
    def candidates(self) -> list[Setting]:
        """Every combination of the values given, defaults for the rest."""
        values = {**{k: (v,) for k, v in RULES[self.rule].parameters.items()}, **self.settings}
        return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


class Study(_Strict):
    """A study.

    Attributes:
        title: Of the report.
        organism: Models that are trained first; or
        models: Models that there are.
        validation_seeds: Training seeds on which grid points are chosen and that are not
            reported; without them the test seeds' own validation prompts decide.
        prompts, judge, generation, estimation: See there.
        rules: What is compared; `ALWAYS` must be among them. Those that are tuned have equally many
            settings, one of which leaves the model as it is.
        main: Name of the grid point at which categories and answers are shown; default: the last.
        attacks: Transformations of harmful prompts under which safety is measured too, at the main
            grid point.
        ks: How many grid points make a front.
        seed: Of the bootstrap.
    """

    title: str
    organism: Organism | None = None
    models: tuple[Model, ...] = ()
    validation_seeds: tuple[Seed, ...] = ()
    prompts: Prompts
    judge: JudgeSettings
    generation: Generation = Generation()
    estimation: Estimation = Estimation()
    rules: tuple[RuleEntry, ...] = Field(min_length=1)
    main: str | None = None
    attacks: tuple[str, ...] = ()
    ks: tuple[Positive, ...] = Field(default=(1, 3), min_length=1)
    seed: Seed = 0

    @field_validator("attacks")
    @classmethod
    def _attacks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            try:
                find_attack(name)
            except UsageError as error:
                raise ValueError(str(error)) from None
        if len(set(names)) < len(names):
            raise ValueError("an attack stands twice")
        return names

    @model_validator(mode="after")
    def _whole(self) -> "Study":
        if (self.organism is None) == (not self.models):
            raise ValueError("give either `organism` or `models`")
        names = [entry.name for entry in self.rules]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two rules are called {twice!r}; give one another `name`")
        for name in ALWAYS:
            if name not in [entry.name for entry in self.rules if entry.rule == name]:
                raise ValueError(f"`rules` lacks `{name}` under its own name, to compare with")
        alone = self.organism is not None and len(self.organism.seeds) == 1
        if alone and any("proxy" in RULES[entry.rule].holds for entry in self.rules):
            raise ValueError("proxy-tuning takes the pair of another seed; there is only one")
        _check_fair(self.rules)
        return self

    def only(self, names: Sequence[str]) -> "Study":
        """The study with some of its rules, plain and TSDI; with all if none is named.

        Raises:
            UsageError: If it has no rule of a name.
        """
        known = [entry.name for entry in self.rules]
        for name in names:
            if name not in known:
                raise UsageError(
                    f"The study has no rule {name!r}{meant(name, known)}.",
                    f"It has {', '.join(known)}.",
                )
        if not names:
            return self
        kept = tuple(e for e in self.rules if e.name in names or e.name in ALWAYS)
        return self.model_copy(update={"rules": kept})


def _check_fair(rules: Sequence[RuleEntry]) -> None:
    """Raise ValueError if some of the rules that validation tunes had more tries than others.

    The best of eight settings is better than the best of three by chance alone, and a rule that
    cannot leave the model as it is loses where nothing should be done.
    """
    tuned = [entry for entry in rules if entry.vary is None and len(entry.candidates) > 1]
    numbers = {entry.name: len(entry.candidates) for entry in tuned}
    if len(set(numbers.values())) > 1:
        shown = ", ".join(f"{name} {number}" for name, number in numbers.items())
        raise ValueError(f"rules are tuned with different numbers of settings ({shown}); give all"
                         " of them equally many")  # fmt: skip
    for entry in tuned:
        nothing = RULES[entry.rule].nothing
        if nothing and not any(nothing.items() <= one.items() for one in entry.candidates):
            key, value = next(iter(nothing.items()))
            raise ValueError(
                f"the settings of {entry.name} lack {key} {value:g}, which leaves the model as it"
                " is"
            )


def _check_values(rule: str, key: str, values: Sequence[Number]) -> None:
    if not values:
        raise ValueError(f"the rule {rule} has no value for {key!r}")
    for value in values:
        wanted = _wanted_text(key, value) if key in TEXT else _wanted_number(key, value)
        if wanted:
            raise ValueError(f"{rule}'s {key} is {wanted}, not {value!r}")


def _wanted_text(key: str, value: Number) -> str:
    """What a value should be; "" if it is that."""
    allowed = TEXT[key]
    if isinstance(value, str) and (not allowed or value in allowed):
        return ""
    return f"one of {', '.join(allowed)}" if allowed else "a text"


def _wanted_number(key: str, value: Number) -> str:
    """Likewise."""
    if isinstance(value, str) or not isfinite(value):
        return "a number"
    if key in WHOLE and (value < 1 or value != int(value)):
        return "a whole number from 1 on"
    if key == "decay" and not 0 <= value <= 1:
        return "between 0 and 1"
    return "0 or more" if key == "strength" and value < 0 else ""


def read_study(path: Path) -> Study:
    """Read a study.

    Raises:
        UsageError: If PyYAML is not installed.
        FormatError: If the file cannot be read or is no study; it names line and key.
    """
    parts = (Organism, Model, Source, Prompts, JudgeSettings, Generation, Estimation, RuleEntry)
    return read_settings(path, Study, field_names(*parts, Study), "study")
