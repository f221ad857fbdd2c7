"""Smoke tests of studies: tiny models and few prompts, without downloads."""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from tsdi.files import read_object, write_json
from tsdi.study.config import RuleEntry, Study
from tsdi.study.members import members
from tsdi.study.rules import RULES
from tsdi.study.settings import Model, Number, Organism
from tsdi.training.new_model import new_model, new_tokenizer
from tsdi.training.recipe import NewModel

PROMPTS = {"harmless": 4, "lookalike": 4, "harmful": 16}
LABELLED = {"harmless": 12, "lookalike": 12, "harmful": 24}  # a slope needs 16 of a kind
STEPS = 4
SEEDS = 2  # reported ones
FEW = 2  # values of what is varied: grid points, settings of a rule
_SIZES = NewModel(hidden_size=32, intermediate_size=64, layers=2, heads=2, vocabulary=512)


def shrink(study: Study, base: Path, out: Path) -> tuple[Study, Path]:
    """A copy of a study with all its rules, but tiny models and few prompts.

    Organisms are trained for a few steps. Models become tiny random ones, every one with weights of
    its own; prompts become the organism's, and the judge refusal phrases. Two grid points, two
    seeds, two settings of a rule and one attack are kept. So all of the study's code is run, and
    its figures mean nothing. Models are put into `out`, the study's folder.

    Returns:
        The small study, and where its paths start.
    """
    content = study.model_dump(mode="json", exclude_defaults=True)
    content["generation"] = {"max_new_tokens": 8, "batch_size": 32, "dtype": "float32"}
    content["estimation"] = study.estimation.model_dump(mode="json", exclude_defaults=True)
    content["estimation"] |= {"prompts": 32, "steps": STEPS, "prompt_tokens": 8}
    splits = ("validation", "test", *(["fit"] if study.prompts.fit else []))
    content["prompts"] = {
        split: [{"load": f"organism:{split}", "limit": LABELLED if split == "fit" else PROMPTS}]
        for split in splits
    }
    content["title"] = f"{study.title} (smoke: the figures mean nothing)"
    for entry, shown in zip(study.rules, content["rules"], strict=True):
        shown["settings"] = _few_settings(entry)
    content |= {"attacks": study.attacks[:1], "ks": [1, FEW]}
    content.pop("main", None)
    seeds = _few_seeds(study, [one.seed for one in members(study, base, out)])
    content["validation_seeds"] = [seed for seed in study.validation_seeds if seed in seeds]
    if study.organism is not None:
        content["organism"] |= _few_organisms(study.organism) | {"seeds": seeds}
        return Study.model_validate(content), base
    content["estimation"]["pool"] = "neutral"
    content["judge"] = {"name": "refusal-phrases"}
    folder = (out / "smoke-models").resolve()
    content["models"] = [_in_folder(model, folder) for model in _few_models(study.models, seeds)]
    small = Study.model_validate(content)
    paths = {path for member in members(small, base, out) for path in member.paths.values()}
    _random_models(folder, sorted(Path(path).name for path in paths))
    return small, base


def _few_settings(entry: RuleEntry) -> dict[str, tuple[Number, ...]]:
    """A rule's settings cut to two values of one parameter, the neutral one among them."""
    nothing, few, left = RULES[entry.rule].nothing, {}, FEW
    for key in sorted(entry.settings, key=lambda key: (key not in nothing, key)):
        values = entry.settings[key]
        if key == "steps":
            values = tuple(min(int(number), STEPS) for number in values)
        ordered = sorted(dict.fromkeys(values), key=lambda value: value != nothing.get(key))
        few[key] = tuple(ordered[:left])
        left = 1 if len(few[key]) > 1 else left
    return few


def _few_seeds(study: Study, seeds: Iterable[int]) -> list[int]:
    """The first validation seed, if there is one, and a few reported seeds."""
    reported = [seed for seed in dict.fromkeys(seeds) if seed not in study.validation_seeds]
    return [*study.validation_seeds[:1], *reported[:SEEDS]]


def _few_organisms(organism: Organism) -> dict[str, Any]:
    """An organism's grid cut to two points."""
    several = len(organism.annotators) > 1
    return {
        "smoke": True,
        "annotators": organism.annotators[:FEW],
        "betas": organism.betas[:1],
        "iterations": [FEW] if several else [1, FEW],
    }


def _few_models(models: Sequence[Model], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Models cut to two, or one model's grid to two points, at these seeds."""
    names = list(dict.fromkeys(model.name for model in models))[:FEW]
    few, left = [], FEW if len(names) == 1 else 1
    for model in models:
        if model.name not in names or ("seed" not in model.grid and model.seed not in seeds):
            continue
        grid, points = {}, left
        for key, values in model.grid.items():
            kept = values if key == "seed" else values[:points]
            grid[key] = tuple(value for value in kept if key != "seed" or value in seeds)
            points = 1 if key != "seed" and len(kept) > 1 else points
        few.append(model.model_copy(update={"grid": grid}).model_dump(exclude_defaults=True))
    return few


def _in_folder(model: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A model's settings with its paths in the folder of the tiny models."""

    def place(path: str) -> str:
        return str(folder / path.replace("/", "--"))  # the grid's keys stay

    changed = dict(model)
    for key in ("path", "reference", "sft"):
        if key in model:
            changed[key] = place(model[key])
    if "proxy" in model:
        changed["proxy"] = [place(path) for path in model["proxy"]]
    if "others" in model:
        changed["others"] = {name: place(path) for name, path in model["others"].items()}
    return changed


def _random_models(folder: Path, names: Iterable[str]) -> None:
    note = folder / "models.json"
    wanted: dict[str, Any] = {"names": list(names), "hidden": _SIZES.hidden_size}
    if note.exists() and read_object(note, "Delete its folder.") == wanted:
        return
    text = files("tsdi.bias").joinpath("neutral.txt").read_text(encoding="utf-8")
    tokenizer = new_tokenizer(text.splitlines(), _SIZES.vocabulary)
    for number, name in enumerate(wanted["names"]):
        new_model(_SIZES, tokenizer, number).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    write_json(note, wanted)
