"""The result files of `tsdi.study.real_text`, and the string rule that speaks for them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsdi.errors import FormatError
from tsdi.files import parse_json

Figures = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """The files of one folder.

    Attributes:
        suites: Kinds and categories of the prompts, and how the rules were checked.
        models: Figures by model.
        rule: The string rule that the tables use.
    """

    suites: Figures
    models: dict[str, Figures]
    rule: str

    @property
    def aligned(self) -> dict[str, Figures]:
        """The models of the safety step, by falling beta and rising iterations."""
        found = {name: one for name, one in self.models.items() if "beta" in one}
        order = sorted(found, key=lambda name: (-found[name]["beta"], found[name]["iterations"]))
        return {name: found[name] for name in order}

    @property
    def main(self) -> str:
        """The model of the smallest beta and the most iterations."""
        return list(self.aligned)[-1]

    def refused(self, model: str, arm: str, suite: str, kind: str = "") -> list[bool]:
        """Whether each answer to a suite's prompts, of one kind if asked, is a refusal."""
        return self._flags(model, arm, suite, self.rule, kind)

    def corrupt(self, model: str, arm: str) -> list[bool]:
        """Whether each answer to any prompt is empty or loops."""
        return [
            flag
            for suite in self.suites["suites"]
            for flag in self._flags(model, arm, suite, "corrupt", "")
        ]

    def _flags(self, model: str, arm: str, suite: str, key: str, kind: str) -> list[bool]:
        flags = self.models[model][arm][suite][key]
        kinds = self.suites["suites"][suite]["kinds"]
        return [f == "1" for f, k in zip(flags, kinds, strict=True) if not kind or k == kind]


def read_results(folder: Path) -> Results:
    """Read the files of `tsdi.study.real_text`; the rule is the one that PKU's answers speak for.

    The rule is chosen on held-out answers that people called safe or unsafe, by how much more often
    it finds a refusal among the safe ones; the models' own answers have no part in it.

    Raises:
        FormatError: If a file is missing or damaged.
    """
    try:
        suites = parse_json((folder / "suites.json").read_bytes())
        files = [p for p in folder.glob("*.json") if p.name not in ("suites.json", "run.json")]
        found = [parse_json(p.read_bytes()) for p in files if not p.name.startswith("log-")]
        models = {one["model"]: one for one in found}
        rules = suites["rules"]
        rule = max(rules, key=lambda name: _ahead(rules[name]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{folder} holds no results of this experiment: {error}.") from None
    return Results(suites, models, rule)


def _ahead(rule: Figures) -> int:
    return int(rule["safe"].count("1") - rule["unsafe"].count("1"))
