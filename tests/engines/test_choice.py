"""Arguments of engines' own, against their names and types, before anything is loaded."""

import json
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import pytest

from tests import tiny
from tsdi.engines.choice import EngineChoice
from tsdi.engines.open import open_engine
from tsdi.errors import UsageError


@dataclass
class EngineArgs:
    """As vLLM's: some types are there for type checkers alone."""

    model: str = ""
    dtype: str = "auto"
    max_model_len: int = None  # type: ignore[assignment]  # as in vLLM
    enforce_eager: bool = False
    gpu_memory_utilization: float = 0.9
    load_format: "str | Formats" = "auto"  # noqa: F821
    logprobs_mode: Literal["raw_logits", "processed_logits"] = "raw_logits"
    speculative_config: dict | None = None


class Llama:
    def __init__(self, model_path: str, *, n_ctx: int = 512, use_mmap: bool = True, **kwargs):
        raise AssertionError("loaded")


@pytest.fixture(autouse=True)
def engines(monkeypatch):
    """Stand-ins of both libraries, whether they are installed or not."""
    for name in ("VLLM_NO_USAGE_STATS", "VLLM_CPU_KVCACHE_SPACE", "VLLM_LOGGING_LEVEL"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    contents = {"vllm": {}, "vllm.engine": {}, "vllm.engine.arg_utils": {"EngineArgs": EngineArgs}}
    for name, content in {**contents, "llama_cpp": {"Llama": Llama}}.items():
        stub = ModuleType(name)
        vars(stub).update(content)
        monkeypatch.setitem(sys.modules, name, stub)


@pytest.mark.parametrize(
    ("engine", "args"),
    [
        ("vllm", {"max_model_len": 4096, "enforce_eager": True, "gpu_memory_utilization": 1}),
        ("vllm", {"load_format": "safetensors"}),
        ("llama-cpp", {"n_ctx": 64, "use_mmap": False}),
        ("transformers", {"attn_implementation": "eager", "max_memory": {"0": "20GiB"}}),
    ],
)
def test_an_engines_own_arguments_are_let_through(engine, args):
    EngineChoice(engine, args=args).check()


@pytest.mark.parametrize(
    ("engine", "args", "said"),
    [
        ("vllm", {"max_modl_len": 1}, "no argument 'max_modl_len' .did you mean 'max_model_len'"),
        ("vllm", {"max_model_len": "long"}, "cannot take max_model_len='long': input should be"),
        ("vllm", {"enforce_eager": "False"}, "enforce_eager='False': it is a text"),
        ("vllm", {"dtype": "float16"}, "set by tsdi: name it as --dtype"),
        ("vllm", {"logprobs_mode": "raw_logits"}, "set by tsdi"),
        ("vllm", {"speculative_config": {}}, "no drafted tokens"),
        ("vllm", {"load_format": "pt"}, "pickles"),
        ("llama-cpp", {"n_gpu_layer": 1}, "llama-cpp has no argument 'n_gpu_layer'"),
        ("llama-cpp", {"kwargs": 1}, "no argument 'kwargs'"),
        ("llama-cpp", {"self": 1}, "no argument 'self'"),
        ("llama-cpp", {"model_path": "x"}, "MODEL names it"),
        ("llama-cpp", {"n_ctx": 1.5}, "n_ctx=1.5"),
        ("transformers", {"tp_plan": "auto"}, "no argument 'tp_plan'"),
        ("transformers", {"attn_implementation": "someone/kernel"}, "cannot take"),
        ("openai", {"timeout": 1}, "takes no arguments of its own"),
    ],
)
def test_others_are_refused_before_weights_are_loaded(engine, args, said):
    with pytest.raises(UsageError, match=said):
        open_engine("nowhere", choice=EngineChoice(engine, args=args))


@pytest.mark.parametrize("engine", ["vllm", "llama-cpp"])
def test_without_the_library_the_install_line_is_said(engine, monkeypatch):
    for name in ("vllm.engine.arg_utils", "llama_cpp"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"not installed\..*pip install"):
        EngineChoice(engine, args={"n_ctx": 1}).check()


def test_they_come_to_the_model_and_stand_in_the_provenance(tmp_path):
    tiny.model("llama").save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    args = {"attn_implementation": "eager"}
    engine, used = open_engine(str(tmp_path), choice=EngineChoice(args=args))
    assert engine._model.config._attn_implementation == "eager"
    assert used["engine_args"] == json.dumps(args)
    assert "engine_args" not in open_engine(str(tmp_path))[1]
