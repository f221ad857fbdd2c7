"""What goes to vLLM's server of a bias, and which flags of a user go with it."""

import itertools

import pytest

from tests import tiny
from tsdi.engines import vllm_settings
from tsdi.engines.vllm import dtype_of
from tsdi.models.load import LoadOptions


def test_template_arguments_of_the_bias_go_to_the_server():
    flags = vllm_settings.server_flags("b", 1.0, {"enable_thinking": False})
    given = dict(itertools.pairwise(flags))
    assert given["--default-chat-template-kwargs"] == '{"enable_thinking": false}'


@pytest.mark.parametrize(
    "flags",
    [
        ["--max-model-len", "64"],
        ["--trust-remote-code"],
        ["--chat-template-content-format", "string"],
        ["--generation-config", "vllm"],
        ["--logprobs_mode=processed_logprobs"],
        ["--override-generation-config", '{"temperature": 0.7}'],
        ["--model-impl", "auto"],
        ["-tp", "2"],
    ],
)
def test_flags_that_undo_nothing_are_let_through(flags):
    vllm_settings.check_flags(flags)


def test_arguments_of_the_engine_become_flags_of_the_server():
    args = {
        "max_model_len": 64,
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "hf_overrides": {"a": 1},
        "quantization": None,
    }
    flags = ["--max-model-len", "64", "--enforce-eager", "--no-enable-prefix-caching"]
    flags += ["--hf-overrides", '{"a": 1}']
    assert vllm_settings.argument_flags(args) == flags
    vllm_settings.check_flags(flags)


@pytest.mark.parametrize(
    ("saved", "asked", "expected"),
    [("float", "auto", "float32"), ("half", "auto", "auto"), ("float", "bfloat16", "bfloat16")],
)
def test_weights_in_float32_stay_so_unless_another_dtype_is_named(saved, asked, expected, tmp_path):
    getattr(tiny.model("llama"), saved)().save_pretrained(tmp_path)
    assert dtype_of(str(tmp_path), LoadOptions(asked)) == expected
