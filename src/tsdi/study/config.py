"""The file of a study (YAML): models, rules, prompts and judge."""

from collections.abc import Mapping, Sequence
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from tsdi.errors import UsageError
from tsdi.stand_ins.names import NAMES as STAND_INS
from tsdi.stand_ins.names import NEEDS as STAND_INS_NEED
from tsdi.stand_ins.names import PERMISSIVE
from tsdi.study.rules import RULES, TEXT, WHOLE
from tsdi.study.settings import (
    Estimation,
    Generation,
    JudgeSettings,
    Model,
    Number,
    Organism,
    Prompts,
    Setting,
)
from tsdi.suites.attacks import find_attack
from tsdi.yaml_file import Name, Positive, Seed, Strict, meant, read_settings

ALWAYS = ("plain", "tsdi")  # rules that every study has, to compare


class RuleEntry(Strict):
    """A decoding rule in a study's file, with its settings.

    Attributes:
        rule: Name of the decoding rule (`tsdi.study.rules`).
        name: Name in results; default: the rule's own name.
        settings: Its parameters; a list of values is a choice, which validation prompts decide.
        vary: The parameter whose every value is reported, for an ablation.
    """

    rule: str
    name: Name
    settings: Mapping[str, tuple[Number, ...]] = {}
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
        _check_order(self.rule, self.candidates)
        return self

    @model_validator(mode="after")
    def _together(self) -> "RuleEntry":
        """Refuse parameters that do not go together."""
        if self.stand_ins and set(self.settings.get("slope", ())) - {"none"}:
            raise ValueError(f"{self.rule} has a slope, which takes a true reference")
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
    def stand_ins(self) -> list[str]:
        """The stand-ins (`tsdi.stand_ins`) that it takes for a reference."""
        return [str(name) for name in self.settings.get("reference", ()) if name in STAND_INS]

    @property
    def fitted(self) -> bool:
        """Whether something of it is fitted to labelled prompts."""
        return RULES[self.rule].fitted or bool(self.stand_ins)

    @property
    def english(self) -> bool:
        """Whether it speaks to the model in English."""
        return RULES[self.rule].english or PERMISSIVE in self.stand_ins

    @property
    def needs(self) -> str:
        """What it needs beforehand, in words."""
        return STAND_INS_NEED if self.stand_ins else RULES[self.rule].needs

    @property
    def candidates(self) -> list[Setting]:
        """Every combination of the values given, defaults for the rest."""
        values = {**{k: (v,) for k, v in RULES[self.rule].parameters.items()}, **self.settings}
        return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


class Study(Strict):
    """The content of a study's file.

    Attributes:
        title: Title of the report.
        organism: Models that are trained first; or
        models: Models that there are.
        validation_seeds: Training seeds on which grid points are chosen and that are not
            reported; without them the test seeds' own validation prompts decide.
        prompts, judge, generation, estimation: Sections of the file (`tsdi.study.settings`).
        rules: Rules that are compared; `ALWAYS` must be among them. Those that are tuned have
            equally many settings, one of which leaves the model as it is.
        main: Name of the grid point at which categories and answers are shown; default: the last.
        attacks: Transformations of harmful prompts under which safety is measured too, at the main
            grid point.
        ks: Numbers of grid points in a front.
        seed: Seed of the bootstrap.
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
        taken = next((name for m in self.models for name in m.others if name in STAND_INS), None)
        if taken is not None:
            raise ValueError(f"{taken!r} is what stands in for a reference; name the model another")
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
        fitted = next((entry.name for entry in self.rules if entry.fitted), "")
        if fitted and not self.prompts.fit:
            raise ValueError(
                f"{fitted} is fitted to labelled prompts, and `prompts` names none of them: `fit`"
            )
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
    if len(set(values)) < len(values):  # it would count as more settings than it is
        raise ValueError(f"{rule}'s {key} has a value twice")
    for value in values:
        wanted = _wanted_text(key, value) if key in TEXT else _wanted_number(key, value)
        if wanted:
            raise ValueError(f"{rule}'s {key} is {wanted}, not {value!r}")


def _check_order(rule: str, candidates: Sequence[Setting]) -> None:
    for one in candidates:
        low, high = (float(one.get(key) or 0.0) for key in ("low", "high"))
        if low > high:
            raise ValueError(
                f"{rule}'s low is {low:g}, above its high of {high:g}: the strength is low where a"
                " prompt is harmful"
            )


def _wanted_text(key: str, value: Number) -> str:
    """The allowed texts of a parameter, for an error; "" if the value is one of them."""
    allowed = TEXT[key]
    if isinstance(value, str) and (not allowed or value in allowed):
        return ""
    return f"one of {', '.join(allowed)}" if allowed else "a text"


def _wanted_number(key: str, value: Number) -> str:
    """The allowed numbers of a parameter, for an error; "" if the value is one of them."""
    if isinstance(value, str) or not isfinite(value):
        return "a number"
    if key in WHOLE and (value < 1 or value != int(value)):
        return "a whole number from 1 on"
    if key == "decay" and not 0 <= value <= 1:
        return "between 0 and 1"
    if key == "width" and value <= 0:
        return "above 0"
    return "0 or more" if key == "strength" and value < 0 else ""


def read_study(path: Path) -> Study:
    """Read and check a study's file (YAML).

    Raises:
        UsageError: If PyYAML is not installed.
        FormatError: If the file cannot be read or is no study; it names line and key.
    """
    return read_settings(path, Study, "study")
