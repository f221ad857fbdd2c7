"""Checks that a checkpoint's or adapter's tensors are exactly those of the model.

The libraries only warn where names or shapes do not fit: they leave random weights in the model, or
an adapter that does nothing.
"""

import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from tsdi.errors import MismatchError, ModelError, NumericalError
from tsdi.files import parse_json
from tsdi.models.names import Place

_SHOWN = 3
_FLOATS = {"F64", "F32", "F16", "BF16"}
_WEIGHTS = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
# Masks and positions that old checkpoints hold, and the pooler of an encoder: nothing reads them.
_UNUSED = re.compile(
    r"(^|\.)((attn|attention|self_attn)\.(bias|masked_bias|causal_mask)|rotary_emb\.inv_freq"
    r"|position_ids|embed_positions\.(weights|_float_tensor)|(encoder|decoder)\.version"
    r"|pooler\.dense\.(weight|bias))$"
)
# What quantisers add: zeros as biases of layers without one, and scales of caches.
_QUANTISED = re.compile(r"(_proj\.bias|_proj\.g_idx|_scale)$")
# Parts of an adapter that PEFT shares between layers and puts in place itself.
_SHARED = ("vblora_vector_bank", "prompt_encoder", ".tinylora_v.", ".unilora_theta_d.")


def check_fit(name: str, model: PreTrainedModel, info: Mapping[str, Collection[Any]]) -> None:
    """Raise MismatchError unless a checkpoint has the tensors of its model, no more and no fewer.

    `info` is what ``from_pretrained`` gives with ``output_loading_info``, sizes ignored. It leaves
    out tied weights, and names that the architecture passes over.
    """
    missing = sorted(info["missing_keys"])
    unexpected = sorted(key for key in info["unexpected_keys"] if not _UNUSED.search(key))
    if getattr(model.config, "quantization_config", None) is not None:
        unexpected = [key for key in unexpected if not _QUANTISED.search(key)]
    shapes = sorted(info["mismatched_keys"])
    _check_classifier(name, model, missing, unexpected)
    parts = []
    if missing:
        parts.append(f"lacks {_listed(missing)}")
    if unexpected:
        parts.append(f"has {_listed(unexpected, ' that the model does not have')}")
    if shapes:
        key, found, wanted = shapes[0]
        count = _count(len(shapes), " of another shape")
        parts.append(f"has {count} ({key} is {list(found)}, the model's {list(wanted)})")
    if parts:
        empty = any(0 in found for _, found, _ in shapes)
        raise MismatchError(
            f"The weights do not fit: {name} {' and '.join(parts)}.",
            _remedy(missing, unexpected, empty),
        )


def check_quantiser(name: str, place: Place) -> None:
    """Raise ModelError for a quantiser that transformers does not know.

    transformers would only warn, and take the packed weights for the weights.
    """
    with suppress(OSError, ValueError):  # of a config that cannot be read transformers says why
        config = parse_json(place.fetch("config.json").read_bytes(), finite=False)
        how = config.get("quantization_config") if isinstance(config, dict) else None
        if not isinstance(how, dict) or how.get("load_in_8bit") or how.get("load_in_4bit"):
            return
        method = how.get("quant_method")
        if not isinstance(method, str) or method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
            raise ModelError(
                f"{name} is quantised by {method!r}, which transformers does not know.",
                "Take the model in bfloat16 or float32, or a newer transformers.",
            )


def check_kinds(name: str, folder: Path, model: PreTrainedModel) -> None:
    """Raise MismatchError for a folder of packed weights whose config says nothing of quantising.

    transformers would take the packed integers, or numbers without their scales, for the weights.
    """
    if getattr(model.config, "quantization_config", None) is not None:
        return
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118  # it is no mapping
                kind = file.get_slice(key).get_dtype()
                if key.endswith("weight") and kind not in _FLOATS:
                    raise _packed(name, key, kind)


def check_finite(name: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise NumericalError for NaN or infinite weights, which may show in few answers only.

    A head's bias may rule out tokens by -inf. Tensors that are quantised or not here are passed
    over.
    """
    for key, tensor in tensors.items():
        if tensor.dtype not in _WEIGHTS or tensor.is_meta or not tensor.numel():
            continue
        low, high = torch.aminmax(tensor)  # both NaN if one number is; ten times isfinite's speed
        ruled_out = tensor.dim() == 1 and bool(low.isneginf())
        if not (high.isfinite() and (low.isfinite() or ruled_out)):
            raise NumericalError(
                f"The tensor {key} of {name} has NaN or infinite numbers.",
                "Copy or train it again; if it was saved whole, load it in float32 or bfloat16.",
            )


def _packed(name: str, key: str, kind: str) -> MismatchError:
    return MismatchError(
        f"The tensor {key} of {name} is {kind}: these are packed weights, and no config says how.",
        "Save them in float32 or bfloat16, or with the config of their quantiser.",
    )


def _check_classifier(
    name: str, model: PreTrainedModel, missing: list[str], unexpected: list[str]
) -> None:
    """Raise MismatchError where a language model is loaded as a classifier."""
    if "ForSequenceClassification" not in type(model).__name__:
        return
    head = [key for key in missing if not key.startswith(f"{model.base_model_prefix}.")]
    if head and not any(key.endswith(head[0]) for key in unexpected):
        raise MismatchError(
            f"{name} has no trained classification head ({head[0]} is missing).",
            "Give a model that was trained as a sequence classifier.",
        )


def _remedy(missing: list[str], unexpected: list[str], empty: bool) -> str:
    if empty:
        return "Empty tensors are what ZeRO-3 leaves: gather its shards, then save the model again."
    found = (u.removesuffix(m) for u in unexpected for m in missing if u.endswith(f".{m}"))
    prefix = next(found, None)
    if prefix is not None:
        return f"Its names begin with {prefix!r}: save the model without its wrapper."
    if len(missing) == 1 and not unexpected:
        return "Save the model again; if its head is tied, config.json says tie_word_embeddings."
    return "Save the model again with save_pretrained, so that config.json and weights agree."


def _listed(names: list[str], what: str = "") -> str:
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{_count(len(names), what)} ({shown})"


def _count(number: int, what: str) -> str:
    return f"{number} tensor{'s' if number != 1 else ''}{what}"


def check_adapter_fit(model: PreTrainedModel, name: str, folder: str, adapter: str) -> None:
    """Check that all of an adapter is in place, finite, and nothing of it is left over.

    Raises:
        MismatchError: If it is not.
        NumericalError: If it has NaN or infinite numbers.
    """
    from peft import load_peft_weights, set_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # offloaded layers keep what they have
        weights = load_peft_weights(folder, device="cpu")
        for key, tensor in weights.items():
            if not tensor.is_floating_point():
                raise _packed(name, key, str(tensor.dtype).removeprefix("torch."))
        check_finite(name, weights)
        result: Any = set_peft_model_state_dict(model, weights, adapter_name=adapter)
    missing = [
        key
        for key in result.missing_keys
        if f".{adapter}" in key and not any(shared in key for shared in _SHARED)
    ]
    unexpected = list(result.unexpected_keys)
    parts = []
    if unexpected:
        parts.append(f"{_modules(unexpected, adapter)} fit to nothing in the base model")
    if missing:
        parts.append(f"it lacks {_modules(missing, adapter)} of the modules that it names")
    if parts:
        raise MismatchError(
            f"The adapter {name} does not fit: {' and '.join(parts)}.",
            "Give the base model that it was trained on, or save it again with PEFT.",
        )


def _modules(keys: Iterable[str], adapter: str) -> str:
    names = sorted(key.replace(f".{adapter}", "").removeprefix("base_model.model.") for key in keys)
    return _listed(names)
