"""The aligned models of a study, and the training of its organisms."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tsdi.errors import ModelError, UsageError
from tsdi.models.compatibility import check_same_tokenizer
from tsdi.models.load import load_tokenizer
from tsdi.models.names import is_local
from tsdi.study.config import Study
from tsdi.study.family import Member
from tsdi.study.places import find
from tsdi.study.settings import Model, Organism
from tsdi.training.organism import SMOKE, Alignment, Recipe, train_grid
from tsdi.yaml_file import NAME


def members(study: Study, base: Path, out: Path) -> list[Member]:
    """All aligned models of a study.

    Relative folders start at `base`; organisms are trained in `out`, the study's folder.

    Raises:
        UsageError: If a name is no pattern of its grid, two models have one name, two seeds one
            model, or a model is its own reference.
    """
    if study.organism is not None:
        found = _organisms(study.organism, out / "models")
    else:
        found = [one for model in study.models for one in _grid(model, base)]
    wrong = next((m.name for m in found if not re.fullmatch(NAME, m.name)), None)
    if wrong is not None:
        raise UsageError(
            f"A model of the study is called {wrong!r}.",
            "Take letters, digits, dots, dashes and underscores, a letter or digit first.",
        )
    twice = [m.id for m in found if [n.id for n in found].count(m.id) > 1]
    if twice:
        raise UsageError(
            f"Two models are called {twice[0]}.", "Put the grid's keys in `name`: beta{beta}."
        )
    seeds: dict[str, int] = {}
    for one in found:
        aligned, reference = one.paths["aligned"], one.paths["reference"]
        if aligned == reference:
            raise UsageError(f"{one.id} is its own reference.", "Name the model before it.")
        if seeds.setdefault(aligned, one.seed) != one.seed:  # one model is no two trainings
            raise UsageError(
                f"Seeds {seeds[aligned]} and {one.seed} are one model, {aligned}.",
                "Put {seed} in `path`.",
            )
    return found


def _grid(model: Model, base: Path) -> list[Member]:
    single = {"beta": model.beta, "iterations": model.iterations, "seed": model.seed}
    cells = [
        {**single, **dict(zip(model.grid, values, strict=True))}
        for values in product(*model.grid.values())
    ]
    return [_member(model, {k: _whole(v) for k, v in cell.items()}, base) for cell in cells]


def _whole(value: float | None) -> float | int | None:
    return int(value) if value is not None and float(value).is_integer() else value


def _member(model: Model, cell: dict[str, float | int | None], base: Path) -> Member:
    def fill(pattern: str) -> str:
        try:
            return pattern.format(**cell)
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            raise UsageError(
                f"The study's model {pattern!r} cannot be filled in: {error}.",
                f"It may name {', '.join('{' + key + '}' for key in cell)}.",
            ) from None

    def place(pattern: str) -> str:
        return find(fill(pattern), base)

    paths = {"aligned": place(model.path), "reference": place(model.reference)}
    if model.sft is not None:
        paths["sft"] = place(model.sft)
    if model.proxy is not None:
        paths |= dict(zip(("proxy", "proxy reference"), map(place, model.proxy), strict=True))
    paths |= {name: place(other) for name, other in model.others.items()}
    beta, iterations = cell["beta"], cell["iterations"]
    return Member(
        name=fill(model.name),
        seed=int(cell["seed"] or 0),
        paths=paths,
        beta=beta,
        iterations=None if iterations is None else int(iterations),
    )


def recipe(organism: Organism) -> Recipe:
    """The training recipe of a study's organism."""
    grid = tuple(
        Alignment(annotators, beta, organism.iterations)
        for annotators, beta in product(organism.annotators, organism.betas)
    )
    return replace(SMOKE if organism.smoke else Recipe(), grid=grid)


def train_seed(organism: Organism, out: Path, seed: int) -> None:
    """Train the missing models of one seed."""
    train_grid(out / "models" / f"seed{seed}", seed, recipe(organism))


def _organisms(organism: Organism, folder: Path) -> list[Member]:
    """The grids of all seeds; the models of the next seed serve as proxy."""
    following = dict(zip(organism.seeds, (*organism.seeds[1:], organism.seeds[0]), strict=True))
    found = []
    for seed, run in product(organism.seeds, recipe(organism).grid):
        own, other = folder / f"seed{seed}", folder / f"seed{following[seed]}"
        for step, name in run.names().items():
            paths = {
                "aligned": str(own / name),
                "reference": str(own / "reference"),
                "sft": str(own / "sft"),
                "proxy": str(other / name),
                "proxy reference": str(other / "reference"),
            }
            shown = name if len(organism.annotators) > 1 else f"beta{run.beta:g}-step{step}"
            found.append(Member(shown, seed, paths, run.beta, step, run.annotators))
    return found


def check_members(found: Sequence[Member], roles: Sequence[str], base: Path) -> None:
    """Refuse models that are missing, or whose tokenizers differ, before anything is run.

    `roles` are those of the models around each that the study's rules need.

    Raises:
        UsageError: If a model names none of a role.
        ModelError: If folders are missing; it names all.
        MismatchError: If tokenizers differ; it says whose.
    """
    for member in found:
        lacking = [role for role in roles if role not in member.paths]
        if lacking:
            raise UsageError(
                f"The study's model {member.name} names no {lacking[0]} model.",
                f"Add `{lacking[0].split()[0]}`, or leave out the rules that need it.",
            )
    names = sorted({member.paths[role] for member in found for role in roles})
    tokenizers = _tokenizers(names, base)
    for member in found:
        for role in roles:
            one, other = member.paths["aligned"], member.paths[role]
            try:
                check_same_tokenizer(tokenizers[one], tokenizers[other])
            except ModelError as error:
                raise type(error)(
                    f"{member.id}: {one} and its {role} {other} do not go together: "
                    f"{error.problem}",
                    error.remedy,
                ) from None


def _tokenizers(names: Sequence[str], base: Path) -> dict[str, PreTrainedTokenizerBase]:
    """The tokenizers of all models by name; an error names all models that are missing."""
    tokenizers: dict[str, PreTrainedTokenizerBase] = {}
    missing = [name for name in names if is_local(name) and not Path(name).exists()]
    for name in names if not missing else ():
        try:
            tokenizers[name] = load_tokenizer(name)
        except ModelError:
            if Path(name).exists():
                raise
            missing.append(name)
    if missing:
        raise ModelError(
            f"{len(missing)} of {len(names)} models are missing: {', '.join(missing[:4])}"
            f"{' ...' if len(missing) > 4 else ''}. They are not in {base}, nor on the hub.",
            "Train or copy them, mend `path` in the study, or say --models FOLDER.",
        )
    return tokenizers
