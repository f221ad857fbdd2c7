"""The engines that the conformance suite runs: one model, any bias, and what is not installed."""

import gc
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

import torch

from tests import tiny
from tests.engines.gguf_file import write_gguf
from tests.fake_engine import FakeEngine
from tsdi.bias import SafetyBias
from tsdi.decoding.slope import Sloped
from tsdi.engines.transformers import TransformersEngine
from tsdi.models.load import LoadOptions

NEEDS = {"fake": "tsdi", "transformers": "tsdi", "vllm": "vllm", "llama.cpp": "llama_cpp"}
NOT_RUN = [n for n, module in {**NEEDS, "mlx": "mlx_lm"}.items() if find_spec(module) is None]


def make(name, values, strength=1.0, condition=None, slope=None):
    """An engine of that name with a bias of these values, and the number of its logits.

    With a condition that one sets the strength.
    """
    values = values if slope is None else Sloped(values, slope)
    made = {
        "fake": _fake,
        "transformers": _transformers,
        "vllm": _vllm,
        "llama.cpp": _llama_cpp,
    }[name]
    return made(values, strength if condition is None else None, condition)


def model():
    return tiny.model("llama", hidden_size=64, initializer_range=0.02)  # heads of 32, for vLLM


def _bias(values, condition=None):
    if values is None:
        return None
    slope = values.slope if isinstance(values, Sloped) else None
    values = values.values if isinstance(values, Sloped) else values
    bias = tiny.bias(values, torch.zeros_like(values)).with_condition(condition)
    return SafetyBias(bias.values, bias.standard_error, bias.info, condition, slope)


def _fake(values, strength, condition):
    used = strength if condition is None else condition
    return FakeEngine(vocab=32, context=64, bias=values, strength=used), 32


def _transformers(values, strength, condition):
    bias = _bias(values, condition)
    return TransformersEngine(model(), tiny.tokenizer(), bias, strength), tiny.VOCAB


@cache
def folder() -> Path:
    """The model as a checkpoint, and as model.gguf."""
    made = Path(mkdtemp(prefix="tsdi-engines-"))
    model().save_pretrained(made)
    tiny.tokenizer().save_pretrained(made)
    _bias(torch.zeros(1, tiny.VOCAB)).save_pretrained(made / "bias")
    return made


@cache
def gguf() -> Path:
    write_gguf(folder() / "model.gguf", model(), tiny.tokenizer())
    return folder() / "model.gguf"


@cache
def llm():
    """One vLLM in this process, which takes 20 seconds to start, and its processor."""
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    from tsdi.engines.vllm import open_llm
    from tsdi.engines.vllm_plugin import SafetyDebias

    made = open_llm(
        str(folder()),
        LoadOptions(dtype="float32"),
        str(folder() / "bias"),
        strength=1.0,
        enforce_eager=True,
        max_num_seqs=64,
        distributed_executor_backend="uni",
    )
    gc.unfreeze()  # vLLM hides all it has made from the collector
    processor = next(one for one in gc.get_objects() if isinstance(one, SafetyDebias))
    return made, processor


def _vllm(values, strength, condition):
    from tsdi.engines.vllm import VllmEngine

    running, processor = llm()
    if values is None:  # without its processor it is another vLLM; strength 0 is to be the same
        return VllmEngine(
            running, tiny.tokenizer(), _bias(torch.zeros(1, tiny.VOCAB)), 0.0
        ), tiny.VOCAB
    bias = _bias(values, condition)
    engine = VllmEngine(running, tiny.tokenizer(), bias, strength)
    processor._condition = condition
    processor._strength = 1.0 if condition is None else condition
    processor._slope = bias.slope
    processor._table, processor._steps = bias.values, bias.steps
    return engine, tiny.VOCAB


def _llama_cpp(values, strength, condition):
    from tsdi.engines.llama_cpp import LlamaCppEngine

    bias = _bias(values, condition)
    return LlamaCppEngine(llama(), tiny.tokenizer(), bias, strength), tiny.VOCAB


@cache
def llama():
    from tsdi.engines.llama_cpp import open_llama

    return open_llama(str(gguf()), type_k=0, type_v=0)  # float32 keys and values, as elsewhere
