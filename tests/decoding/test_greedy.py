"""Models that take padding for text are found out, by their logits."""

import pytest
import torch
from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig
from peft import get_peft_model as adapted
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from tests import tiny
from tsdi.decoding.greedy import ignores_mask

# PEFT reads a name that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
RECURRENT = {
    "rwkv": {"attention_hidden_size": 32, "context_length": 128},
    "recurrent_gemma": {
        "lru_width": 32,
        "head_dim": 16,
        "num_hidden_layers": 3,
        "attention_window_size": 64,
        "block_types": ("recurrent", "recurrent", "attention"),
    },
    "mamba": {"state_size": 8},
}


def recurrent(kind):
    config = CONFIG_MAPPING[kind](**{**tiny.SMALL, **RECURRENT[kind]})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
class TestPadding:
    @pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "mixtral"])
    def test_is_masked_in_transformers(self, kind, dtype):
        assert not ignores_mask(tiny.model(kind).to(dtype))

    @pytest.mark.parametrize(
        ("kind", "ignored"), [("rwkv", 1), ("recurrent_gemma", 1), ("mamba", 0)]
    )
    def test_is_text_for_some_recurrent_models(self, kind, ignored, dtype):
        assert ignores_mask(recurrent(kind).to(dtype)) == bool(ignored)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("adapter", "ignored"),
    [
        (lambda: PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4), True),
        (
            lambda: PromptEncoderConfig(
                task_type="CAUSAL_LM", num_virtual_tokens=4, encoder_hidden_size=16
            ),
            True,
        ),
        (lambda: PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4), False),
    ],
    ids=["prompt-tuning", "p-tuning", "prefix-tuning"],
)
@pytest.mark.filterwarnings("ignore:Position ids are not supported")
def test_virtual_tokens_before_the_padding(kind, adapter, ignored):
    torch.manual_seed(0)
    model = adapted(tiny.model(kind), adapter()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    assert ignores_mask(model) == ignored


@pytest.mark.parametrize(("dtype", "ignored"), [(torch.bfloat16, False), (torch.float32, True)])
def test_what_rounding_to_sixteen_bits_changes_is_no_mask_ignored(monkeypatch, dtype, ignored):
    logits = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0)).double()

    def rounded(model, ids, mask):
        """As a sound model of 16 bits reads it: alone, or 0.06 standard deviations from that."""
        return logits[:1] if len(ids) == 1 else logits + 0.06 * logits.flip(0)

    monkeypatch.setattr("tsdi.decoding.greedy._next_logits", rounded)
    assert ignores_mask(tiny.model().to(dtype)) == ignored
