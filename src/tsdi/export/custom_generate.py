"""Debiased decoding for this checkpoint, by TSDI (arXiv 2502.02153); needs no tsdi.

transformers runs this file as `generate` when the checkpoint is loaded with trust_remote_code=True,
and so does `transformers serve --trust-remote-code`. It subtracts strength x bias[i] from the
logits of response token i. `generate(..., tsdi_strength=0.0)` decodes plainly.
"""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList


class SafetyDebias(LogitsProcessor):
    """Subtracts the bias; the step is found from the ids, so replayed tokens cost nothing."""

    def __init__(self, bias: Tensor, strength: float, prompt_length: int) -> None:
        self.bias, self.strength, self.prompt_length = bias, strength, prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Debiased scores, [rows, width]."""
        step = input_ids.shape[1] - self.prompt_length
        if not 0 <= step < len(self.bias):
            return scores
        debiased = scores.clone()
        shift = self.bias[step].to(scores.device, scores.dtype)
        debiased[:, : len(shift)] -= self.strength * shift
        return debiased


def generate(
    model: Any,
    *args: Any,
    tsdi_strength: float | None = None,
    logits_processor: Any = None,
    **options: Any,
) -> Any:
    """As `model.generate`, debiased."""
    ids = options.get("input_ids", options.get("inputs", args[0] if args else None))
    length = 0 if ids is None else ids.shape[1]  # inputs_embeds: generate begins without ids
    bias, recommended = _bias(model)
    strength = recommended if tsdi_strength is None else float(tsdi_strength)
    processors = LogitsProcessorList(logits_processor or [])
    if strength:
        processors.append(SafetyDebias(bias, strength, length))
    options.pop("trust_remote_code", None)
    options.pop("custom_generate", None)
    return type(model).generate(model, *args, logits_processor=processors, **options)


def _bias(model: Any) -> tuple[Tensor, float]:
    """The checkpoint's bias and its recommended strength, read once for each model."""
    if not hasattr(model, "_tsdi_bias"):
        tensors, config = _file(model, "bias.safetensors"), _file(model, "bias_config.json")
        strength = json.loads(Path(config).read_text(encoding="utf-8"))["strength"]
        model._tsdi_bias = (load_file(tensors)["bias"], float(strength))
    found: tuple[Tensor, float] = model._tsdi_bias
    return found


def _file(model: Any, name: str) -> str | Path:
    place = Path(model.name_or_path) / "tsdi" / name
    if place.is_file():
        return place
    return str(hf_hub_download(model.name_or_path, f"tsdi/{name}"))
