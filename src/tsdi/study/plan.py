"""The plan of a study: its file, prompts and models, checked before anything is run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from tsdi.condition.discriminant import check_labels
from tsdi.errors import UsageError
from tsdi.models.load import load_tokenizer
from tsdi.stand_ins.names import NAMES as STAND_INS
from tsdi.study.config import RuleEntry, Study
from tsdi.study.family import Member
from tsdi.study.members import check_members, members
from tsdi.study.places import find, find_judge
from tsdi.study.prompts import split_prompts
from tsdi.study.rules import RULES, SERVED
from tsdi.study.settings import Source
from tsdi.suites.attacks import find_attack, unknown_words
from tsdi.suites.load import load_prompts
from tsdi.suites.prompts import Prompt
from tsdi.suites.table import SUITES
from tsdi.training.organism_tokenizer import build_tokenizer
from tsdi.yaml_file import meant


@dataclass(frozen=True)
class Plan:
    """A checked study with its prompts and models.

    Relative paths start at `base`; token pools may also be in `home`, the folder of the study's
    file; `out` is the study's own folder.
    """

    study: Study
    base: Path
    home: Path
    out: Path
    prompts: dict[str, list[Prompt]]
    members: list[Member]

    @property
    def pools(self) -> tuple[Path, ...]:
        """The folders with text files of token pools."""
        return self.home, self.base

    @property
    def entries(self) -> list[RuleEntry]:
        """The rules that apply to these models, the plain model first."""
        able = [entry for entry in self.study.rules if not self.reason_against(entry)]
        return sorted(able, key=lambda entry: entry.rule != "plain")

    @property
    def plain(self) -> RuleEntry:
        """The rule entry of the plain model."""
        return self.entries[0]

    def reason_against(self, entry: RuleEntry) -> str:
        """The reason why a rule does not apply to the study's models; "" if it does."""
        if self.study.organism is not None and entry.english:
            return "not applicable: the organism reads no English and knows no system prompt"
        if self.study.generation.engine == "vllm" and entry.rule not in SERVED:
            return "not applicable: vLLM gives it no other model's logits, weights or activations"
        return ""

    def members_of(self, entry: RuleEntry) -> list[Member]:
        """The models with which a rule answers: all, or one for each seed."""
        if RULES[entry.rule].of == "aligned":
            return self.members
        return [m for m in self.members if m == self.first(m.seed)]

    @property
    def main(self) -> str:
        """The name of the main grid point, at which attacks, categories and answers are shown."""
        return self.study.main or self.members[-1].name

    def attacks(self, member: Member, entry: RuleEntry) -> tuple[str, ...]:
        """The attacks under which a rule is tested with a member."""
        is_main = member.name == self.main or RULES[entry.rule].of != "aligned"
        return self.study.attacks if is_main and entry.vary is None else ()

    def first(self, seed: int) -> Member:
        """The first member of a seed, whose job has the cells that the seed's members share."""
        return next(member for member in self.members if member.seed == seed)


def plan(study: Study, base: Path, home: Path, out: Path) -> Plan:
    """Read and check the prompts and models of a study.

    Relative paths start at `base`; token pools may also be in `home`, the folder of the study's
    file.

    Raises:
        UsageError: If prompts of a kind are missing, a rule lacks a model, an attack is in unknown
            words, or a path leads nowhere but from the current folder.
        PromptError: If prompts cannot be loaded.
        ModelError: If models are missing or tokenizers differ.
    """
    base, home = base.resolve(), home.resolve()
    find_judge(study.judge.name, base)
    prompts = _prompts(study, base)
    made = Plan(study, base, home, out, prompts, members(study, base, out))
    if made.main not in {member.name for member in made.members}:
        names = list(dict.fromkeys(member.name for member in made.members))
        raise UsageError(
            f"The study's `main` is {made.main!r}{meant(made.main, names)}.",
            f"It can be {', '.join(names)}.",
        )
    _check_seeds(study, made.members)
    _check_shared(made)
    points = len({member.name for member in made.members})
    if min(study.ks) > points:
        raise UsageError(
            f"No front of {min(study.ks)} points can be made of {points}.",
            "Put a smaller number among `ks`.",
        )
    held = {role for entry in made.entries for role in RULES[entry.rule].holds}
    held |= {"aligned", "reference"}
    named = {str(name) for e in made.entries for name in e.settings.get("reference", ())}
    held |= named - set(STAND_INS)
    if study.organism is None:
        check_members(made.members, sorted(held), base)
    _check_attacks(made)
    return made


def _check_attacks(made: Plan) -> None:
    """Refuse attacks in words that the models' tokenizer does not know: they would show nothing."""
    texts = [p.messages[-1]["content"] for p in made.prompts["test"] if p.kind == "harmful"]
    if not made.study.attacks:
        return
    tokenizer = _tokenizer(made)
    for name in made.study.attacks:
        if unknown_words(find_attack(name), texts[:32], tokenizer):
            raise UsageError(
                f"The attack {name} is not applicable: the models' tokenizer lacks words of it.",
                "Leave it out. Organisms know organism-prefix, organism-suffix, repeat and bare.",
            )


def _tokenizer(made: Plan) -> PreTrainedTokenizerBase:
    """The tokenizer of all models, also of organisms that are not trained yet."""
    if made.study.organism is not None:
        return build_tokenizer()
    return load_tokenizer(made.members[0].paths["aligned"])


def _check_seeds(study: Study, found: Sequence[Member]) -> None:
    """Refuse a grid with holes, and validation seeds that are none or all."""
    names, seeds = ({getattr(m, key) for m in found} for key in ("name", "seed"))
    lacking = {(name, seed) for name in names for seed in seeds} - {(m.name, m.seed) for m in found}
    if lacking:
        name, seed = min(lacking)
        raise UsageError(
            f"The study has no model {name} of seed {seed}, which others have.",
            "Give every model the same seeds.",
        )
    aside = set(study.validation_seeds)
    if aside - seeds or aside == seeds:
        raise UsageError(
            f"`validation_seeds` is {sorted(aside)}, the models' seeds are {sorted(seeds)}.",
            "Name some of them, and leave one to report.",
        )


def _check_shared(made: Plan) -> None:
    """Refuse models of a seed that differ in a model that a rule shares among them."""
    for entry in made.entries:
        role = RULES[entry.rule].of
        for member in made.members:
            first = made.first(member.seed)
            if role != "aligned" and member.paths.get(role) != first.paths.get(role):
                raise UsageError(
                    f"The rule {entry.name} takes one {role} model for each seed, and"
                    f" {first.name} and {member.name} have different ones.",
                    "Leave the rule out, or give the models different seeds in studies of their"
                    " own.",
                )


def _prompts(study: Study, base: Path) -> dict[str, list[Prompt]]:
    def load(sources: Sequence[Source]) -> list[tuple[Source, list[Prompt]]]:
        return [
            (s, load_prompts(_place(s.load, base), s.seed, s.kind, s.columns).prompts)
            for s in sources
        ]

    asked = study.prompts
    named = {"fit": asked.fit, "validation": asked.validation, "test": asked.test}
    loaded = {split: load(sources) for split, sources in named.items() if sources}
    found = split_prompts(loaded, asked.validation_share)
    for split, prompts in found.items():
        kinds = {prompt.kind for prompt in prompts}
        if "harmful" not in kinds or not kinds & {"harmless", "lookalike"}:
            raise UsageError(
                f"The study's {split} prompts are {', '.join(sorted(kinds)) or 'none'}.",
                "Give harmful ones and harmless or lookalike ones: safety is shown beside"
                " helpfulness.",
            )
    if "fit" in found:
        _check_labels(found["fit"])
    return found


def _check_labels(prompts: Sequence[Prompt]) -> None:
    """Refuse labels that no condition can be fitted to."""
    check_labels(torch.tensor([prompt.kind == "harmful" for prompt in prompts]))


def _place(name: str, base: Path) -> str:
    head, colon, file = name.partition(":")
    return f"{head}:{find(file, base)}" if colon and head in SUITES else find(name, base)
