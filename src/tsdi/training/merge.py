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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tsdi.errors import MismatchError, ModelError, NumericalError, RunExistsError, UsageError
from tsdi.files import parse_json, working_on, write_folder, write_json
from tsdi.models.names import check_no_export
from tsdi.models.shipped import resolve_model

_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_AVERAGED = ("F16", "BF16", "F32", "F64")
_SHAPES = ("architectures", "vocab_size", "hidden_size", "num_hidden_layers")


def merge(models: Sequence[tuple[str | Path, float]], out: str | Path) -> Path:
    """Write the weighted mean of models, sum_k w_k theta_k / sum_k w_k.

    Sums are float32, and saved in the first model's precision, in its shards. At any time there is
    one shard of the result and one tensor of a model in memory. Integers that all models share,
    such as positions, stay as they are.

    Args:
        models: Folder and weight of each model, all of one architecture; configuration and
            tokenizer are the first one's. Shipped models go by name, "organism/aligned".
        out: The folder; it is there when all of it is.

    Returns:
        The folder.

    Raises:
        UsageError: If there is nothing to merge, or the weights make no mean.
        RunExistsError: If the folder is there already, or another process is making it.
        ModelError: If a folder holds no whole model in safetensors, or its weights are quantised.
        MismatchError: If the models have different tensors.
        NumericalError: If a model has NaN or infinite weights.
        TsdiError: If the folder cannot be written.
    """
    out, weights = Path(out), [weight for _, weight in models]
    folders = [Path(resolve_model(str(model))) for model, _ in models]
    _check_weights(weights)
    with working_on(out):
        if out.exists():
            raise RunExistsError(f"{out} is there already.", "Choose a new folder.")
        places = [_places(folder) for folder in folders]
        _check_alike(folders, places)
        _check_averaged(places)
        with write_folder(out) as unfinished:
            for shard in sorted(set(places[0].values())):
                _merge_shard(shard, places, weights, unfinished)
            _copy_settings(folders[0], unfinished)
    return out


def _copy_settings(model: Path, out: Path) -> None:
    """Copy configuration and tokenizer."""
    for file in model.iterdir():
        if file.suffix in (".json", ".jinja", ".model", ".txt") and file.name != _INDEX:
            shutil.copy(file, out)
    if (model / _INDEX).exists():
        write_json(out / _INDEX, parse_json((model / _INDEX).read_bytes()))


def _check_weights(weights: Sequence[float]) -> None:
    if len(weights) < 2 or not math.isfinite(sum(map(abs, weights))) or not sum(weights):
        raise UsageError(
            f"The weights {', '.join(f'{weight:g}' for weight in weights)} make no mean.",
            "Give two models or more, and as many numbers that do not add up to 0.",
        )


def _places(folder: Path) -> dict[str, Path]:
    """The file of every tensor of a model."""
    if (folder / "adapter_config.json").exists():
        raise ModelError(f"{folder} is an adapter.", "Merge it into its base model first.")
    check_no_export(str(folder))
    try:
        if (folder / _INDEX).exists():
            shards = parse_json((folder / _INDEX).read_bytes())["weight_map"]
            return {name: folder / Path(file).name for name, file in shards.items()}
        with safe_open(folder / _ONE, "pt") as file:
            return dict.fromkeys(file.keys(), folder / _ONE)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(
            f"{folder} holds no whole model in safetensors ({reason}).",
            "Save it again with safe_serialization; pickles are not read.",
        ) from None


def _check_alike(folders: Sequence[Path], places: Sequence[dict[str, Path]]) -> None:
    configs = [_config(folder) for folder in folders]
    for folder, config, place in zip(folders, configs, places, strict=True):
        for key in _SHAPES:
            if config.get(key) != configs[0].get(key):
                raise MismatchError(
                    f"{folders[0]} and {folder} differ in {key}: {configs[0].get(key)} and"
                    f" {config.get(key)}.",
                    "Merge models of one architecture.",
                )
        different = sorted(place.keys() ^ places[0].keys())
        if different:
            raise MismatchError(
                f"{folders[0]} and {folder} do not both have the tensor {different[0]!r}"
                f" ({len(different)} such tensors).",
                "Merge models of one architecture.",
            )


def _check_averaged(places: Sequence[dict[str, Path]]) -> None:
    """Raise ModelError if a tensor holds numbers that have no mean, such as packed 4-bit ones."""
    with ExitStack() as stack:
        opened = [
            {path: stack.enter_context(_opened(path)) for path in set(place.values())}
            for place in places
        ]
        for name in places[0]:
            files = [files[place[name]] for files, place in zip(opened, places, strict=True)]
            kinds = [file.get_slice(name).get_dtype() for file in files]
            odd = next((i for i, kind in enumerate(kinds) if kind not in _AVERAGED), None)
            if odd is not None and not _same_integers([file.get_tensor(name) for file in files]):
                raise ModelError(
                    f"{places[odd][name]}: the tensor {name!r} is {kinds[odd]}, which has no mean:"
                    " the weights are quantised.",
                    "Merge the models in bfloat16 or float32, then quantise the result.",
                )


def _same_integers(tensors: Sequence[Tensor]) -> bool:
    return not tensors[0].is_floating_point() and all(
        torch.equal(tensors[0], tensor) for tensor in tensors[1:]
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = parse_json((folder / "config.json").read_bytes(), finite=False)
    except (OSError, ValueError):
        raise ModelError(f"{folder} has no readable config.json.") from None
    return config if isinstance(config, dict) else {}


def _merge_shard(
    shard: Path, places: Sequence[dict[str, Path]], weights: Sequence[float], folder: Path
) -> None:
    merged = {}
    with ExitStack() as stack:
        files: dict[Path, Any] = {}
        for name in sorted(name for name, file in places[0].items() if file == shard):
            merged[name] = _merged(name, places, weights, files, stack)
    save_file(merged, folder / shard.name, metadata={"format": "pt"})


def _merged(
    name: str,
    places: Sequence[dict[str, Path]],
    weights: Sequence[float],
    files: dict[Path, Any],
    stack: ExitStack,
) -> Tensor:
    total: Tensor | None = None
    for place, weight in zip(places, weights, strict=True):
        path = place[name]
        if path not in files:
            files[path] = stack.enter_context(_opened(path))
        tensor: Tensor = files[path].get_tensor(name)
        if not tensor.is_floating_point():
            return tensor  # the same in all models
        if not tensor.isfinite().all():
            raise NumericalError(f"{path}: the tensor {name!r} has NaN or infinite numbers.")
        if total is None:
            dtype, total = tensor.dtype, torch.zeros_like(tensor, dtype=torch.float32)
        if tensor.shape != total.shape:
            raise MismatchError(
                f"{path}: the tensor {name!r} is {tuple(tensor.shape)}, the first model's"
                f" {tuple(total.shape)}.",
                "Merge models of one architecture.",
            )
        total.addcmul_(tensor.float(), torch.tensor(weight))  # rounds as mergekit does
    assert total is not None
    return total.div_(torch.tensor(weights).sum()).to(dtype)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"Cannot read {path}: {' '.join(str(error).split())[:120]}.") from None
