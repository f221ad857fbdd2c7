"""Linear weight merges: a weighted mean of checkpoints, tensor by tensor.

P-SACPO (Wachi et al., NeurIPS 2024) merges a safe and a helpful model so; it is the model soup of
Wortsman et al. (2022). Equal to mergekit's `linear` with `normalize: true`, its default.
"""

import math
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tsdi.arguments import as_list, as_name, is_number
from tsdi.errors import NumericalError, RunExistsError, UsageError
from tsdi.files import parse_json, working_on, write_folder, write_json
from tsdi.models.shipped import resolve_model
from tsdi.training.mergeable import INDEX, Places, check_mergeable, opened, tensor_places


def merge(models: Sequence[tuple[str | Path, float]], out: str | Path) -> Path:
    """Write the weighted mean of models, sum_k w_k theta_k / sum_k w_k.

    Sums are float32, and saved in the first model's precision, in its shards. At any time there is
    one shard of the result and one tensor of a model in memory. Integers that all models share,
    such as positions, stay as they are.

    Args:
        models: Folder and weight of each model, all trained from one; configuration and tokenizer
            are the first one's. Shipped models go by name, "organism/aligned".
        out: The folder; it is there when all of it is.

    Returns:
        The folder.

    Raises:
        UsageError: If there is nothing to merge, or the weights make no mean.
        RunExistsError: If the folder is there already, or another process is making it.
        ModelError: If a folder holds no whole model in safetensors, or its weights are quantised.
        MismatchError: If the models have different tensors, tokenizers, or configs that decide
            other numbers (`tsdi.training.mergeable`).
        NumericalError: If a model or the mean has NaN or infinite weights.
        TsdiError: If the folder cannot be written.
    """
    out, models = Path(out), [_weighted(one) for one in as_list("models", models)]
    weights = [weight for _, weight in models]
    folders = [Path(resolve_model(str(model))) for model, _ in models]
    _check_weights(weights)
    with working_on(out):
        if out.exists():
            raise RunExistsError(f"{out} is there already.", "Choose a new folder.")
        places = [tensor_places(folder) for folder in folders]
        check_mergeable(folders, places)
        with write_folder(out) as unfinished:
            for shard in sorted(set(places[0].values())):
                _merge_shard(shard, places, weights, unfinished)
            _copy_settings(folders[0], unfinished)
    return out


def _weighted(one: tuple[str | Path, float]) -> tuple[str | Path, float]:
    if isinstance(one, str | Path) or len(one) != 2:
        raise UsageError(f"{one!r} is no model with its weight.", "Give pairs: (MODEL, WEIGHT).")
    as_name("A model", one[0])
    if not is_number(one[1]):
        raise UsageError(f"The weight of {one[0]} is {one[1]!r}.", "Give a number.")
    return one


def _copy_settings(model: Path, out: Path) -> None:
    """Copy configuration and tokenizer."""
    for file in model.iterdir():
        if file.suffix in (".json", ".jinja", ".model", ".txt") and file.name != INDEX:
            shutil.copy(file, out)
    if (model / INDEX).exists():
        write_json(out / INDEX, parse_json((model / INDEX).read_bytes()))


def _check_weights(weights: Sequence[float]) -> None:
    """Refuse weights that have no mean in float32, in which they are summed."""
    exact, single = sum(weights), float(torch.tensor(list(weights)).sum())
    close = math.isfinite(single) and math.isclose(exact, single, rel_tol=1e-4)
    if len(weights) < 2 or not single or not close:
        raise UsageError(
            f"The weights {', '.join(f'{weight:g}' for weight in weights)} make no mean.",
            "Give two models or more, and as many numbers that do not add up to 0, none of them"
            " beyond measure: .75,.25.",
        )


def _merge_shard(
    shard: Path, places: Sequence[Places], weights: Sequence[float], folder: Path
) -> None:
    merged = {}
    with ExitStack() as stack:
        files: dict[Path, Any] = {}
        for name in sorted(name for name, file in places[0].items() if file == shard):
            for path in {place[name] for place in places} - files.keys():
                files[path] = stack.enter_context(opened(path))
            merged[name] = _merged(name, [files[place[name]] for place in places], weights)
            if merged[name].is_floating_point() and not merged[name].isfinite().all():
                raise NumericalError(*_infinite(name, places, files, merged[name].dtype))
    save_file(merged, folder / shard.name, metadata={"format": "pt"})


def _merged(name: str, files: Sequence[Any], weights: Sequence[float]) -> Tensor:
    """The weighted mean of one tensor; integers are the first model's."""
    first: Tensor = files[0].get_tensor(name)
    if not first.is_floating_point():
        return first
    total = torch.zeros_like(first, dtype=torch.float32)
    for file, weight in zip(files, weights, strict=True):
        total.addcmul_(file.get_tensor(name).float(), torch.tensor(weight))  # as mergekit rounds
    return total.div_(torch.tensor(weights).sum()).to(first.dtype)


def _infinite(
    name: str, places: Sequence[Places], files: dict[Path, Any], dtype: torch.dtype
) -> tuple[str, str]:
    """The cause of NaN or infinite numbers in a mean, and the remedy."""
    for place in places:
        if not files[place[name]].get_tensor(name).isfinite().all():
            return f"{place[name]}: the tensor {name!r} has NaN or infinite numbers.", ""
    return (
        f"The mean of the tensor {name!r} has numbers that {dtype} cannot hold.",
        "Take smaller weights, or models in bfloat16 or float32.",
    )
