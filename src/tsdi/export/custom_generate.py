"""Debiased decoding for this checkpoint, by TSDI (arXiv 2502.02153); needs no tsdi.

transformers runs this file as `generate` when the checkpoint is loaded with trust_remote_code=True.
It subtracts strength x bias[i] from the logits of response token i. `generate(...,
tsdi_strength=0.0)` decodes plainly. `transformers serve --trust-remote-code` runs it, too, and the
code of any other model that a request names: serve the model by `tsdi serve` instead.
"""

import hashlib
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from safetensors.torch import load
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

BIAS_SHA256 = ""  # both are filled in by tsdi export
STRENGTH = 1.0
_FILE = "tsdi/bias.safetensors"


class SafetyDebias(LogitsProcessor):
    """The rule of `tsdi.decoding.rule`, said again, as there may be no tsdi here.

    The step is found from the ids, so replayed tokens cost nothing.
    """

    def __init__(self, bias: Tensor, prompt_length: int, strength: float) -> None:
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
    *args: Any,
    model: Any,
    tsdi_strength: float | None = None,
    logits_processor: Any = None,
    **options: Any,
) -> Any:
    """Debiased `model.generate`, with the same arguments besides `tsdi_strength`."""
    strength = STRENGTH if tsdi_strength is None else float(tsdi_strength)
    processors = LogitsProcessorList(logits_processor or [])
    if strength:
        processors.append(SafetyDebias(_bias(model), _prompt_length(args, options), strength))
        config = options.get("generation_config") or model.generation_config
        if (options.get("num_beams") or config.num_beams or 1) > 1:
            options.setdefault("renormalize_logits", True)  # beams add log-probabilities
    options.pop("trust_remote_code", None)
    options.pop("custom_generate", None)
    return type(model).generate(model, *args, logits_processor=processors, **options)


def _prompt_length(args: tuple[Any, ...], options: dict[str, Any]) -> int:
    """The number of ids before the answer: those given, 0 with embeddings, else 1."""
    given = (options.get("input_ids"), options.get("inputs"), *args[:1])
    ids = next((one for one in given if one is not None), None)
    if ids is not None:
        return int(ids.shape[1])
    return 0 if options.get("inputs_embeds") is not None else 1


def _bias(model: Any) -> Tensor:
    """The checkpoint's bias, read once for each model."""
    if not hasattr(model, "_tsdi_bias"):
        place = Path(model.name_or_path) / _FILE
        if not place.is_file():
            place = Path(hf_hub_download(model.name_or_path, _FILE))
        data = place.read_bytes()
        if hashlib.sha256(data).hexdigest() != BIAS_SHA256:
            raise ValueError(f"{place} is not the bias that this code came with: another revision?")
        tensors = load(data)
        bias = tensors["bias"].float()
        if "bias_tokens" in tensors:  # the others are 0
            tokens = tensors["bias_tokens"].long()
            bias = bias.new_zeros(len(bias), int(tokens.max()) + 1).scatter_(1, tokens, bias)
        model._tsdi_bias = bias
    found: Tensor = model._tsdi_bias
    return found
