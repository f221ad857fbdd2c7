"""Smoke tests of recipes: a tiny model and few steps in place of the real ones."""

from typing import Any

from tsdi.training.recipe import Merge, Preference, Recipe, Sft

_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "layers": 2,
    "heads": 2,
    "context": 128,
    "vocabulary": 512,
}
_ROWS = 400
_STAGE = {"steps": 2, "batch_size": 4, "max_length": 64, "checkpoint_every": 1}
_LENGTHS = ("epochs", "device_batch_size", "precision")


def shrink(recipe: Recipe) -> Recipe:
    """A copy of a recipe with a tiny random model of its architecture and few steps.

    Stages, betas, methods, adapters and merges are the same; of the models that a stage keeps
    along the way there are as many, one after each step.
    """
    content = recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    model = recipe.model
    architecture = model.new.architecture if model.new else model.architecture
    content["model"] = {"new": {"architecture": architecture} | _SIZES}
    if model.prompt_format is not None:
        content["model"]["prompt_format"] = model.prompt_format
    for source in content["data"].values():
        source["limit"] = min(source.get("limit", _ROWS), _ROWS)
    renamed: dict[str, str] = {}
    for name, stage in recipe.stages.items():
        small = content["stages"][name]
        for key in ("from", "with"):
            if small.get(key):
                small[key] = renamed[small[key]]
        if not isinstance(stage, Merge):
            _shrink_stage(stage, small)
        names = type(stage).model_validate(small).names(name)
        renamed |= dict(zip(stage.names(name), names, strict=True))
    return Recipe.model_validate(content)


def _shrink_stage(stage: Sft | Preference, small: dict[str, Any]) -> None:
    for key in _LENGTHS:
        small.pop(key, None)
    kept = len(stage.keep)
    small |= _STAGE | {"steps": max(2, kept), "keep": list(range(1, kept + 1))}
    if isinstance(stage, Preference):
        if stage.samples is not None:
            small["samples"] = {"prompts": 8, "max_new_tokens": 8}
        if stage.monitor is not False:
            small["monitor"] = {"every": 1, "prompts": 8}
