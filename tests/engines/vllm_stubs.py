"""Stubs of what tsdi's processors import of vLLM, where vLLM is not installed."""

import sys
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from tests.engines import cases


class _V1:
    """vLLM's base classes are empty where they matter."""


class _V2:
    """Likewise."""


def _updates(entries, update, new):
    """What vLLM's process_dict_updates does: added, removed, then moved rows."""
    if update is None:
        return
    for index, params, prompt, answer in update.added:
        state = new(params, prompt, answer)
        entries.pop(index, None)
        if state is not None:
            entries[index] = state
    for index in update.removed:
        entries.pop(index, None)
    for one, other, way in update.moved:
        a, b = entries.pop(one, None), entries.pop(other, None)
        if a is not None:
            entries[other] = a
        if b is not None and way == "swap":
            entries[one] = b


def _group(rank=0):
    return SimpleNamespace(is_last_rank=True, rank_in_group=rank)


STUBS = {
    "vllm": {"SamplingParams": SimpleNamespace, "TokensPrompt": dict},
    "vllm.distributed": {"get_pp_group": _group, "get_tp_group": _group},
    "vllm.sampling_params": {"SamplingParams": SimpleNamespace},
    "vllm.v1": {},
    "vllm.v1.sample": {},
    "vllm.v1.sample.logits_processor": {"BatchUpdate": object, "LogitsProcessor": _V1},
    "vllm.v1.sample.logits_processor.builtin": {"process_dict_updates": _updates},
    "vllm.v1.worker": {},
    "vllm.v1.worker.gpu": {},
    "vllm.v1.worker.gpu.sample": {},
    "vllm.v1.worker.gpu.sample.logits_processor": {"LogitsProcessor": _V2},
}  # fmt: skip


@contextmanager
def importing(name: str):
    """A module that imports vLLM; on stubs of it where vLLM is not installed."""
    if "vllm" not in cases.NOT_RUN:
        yield import_module(name)
        return
    with pytest.MonkeyPatch.context() as patch:
        for stubbed, content in STUBS.items():
            stub = ModuleType(stubbed)
            vars(stub).update(content)
            patch.setitem(sys.modules, stubbed, stub)
        patch.delitem(sys.modules, name, raising=False)
        yield import_module(name)
        patch.delitem(sys.modules, name, raising=False)


def params(**extra):
    return SimpleNamespace(extra_args=extra or None)


def update(added=(), removed=(), moved=()):
    return SimpleNamespace(added=added, removed=removed, moved=moved, batch_size=8)


class Buffer:
    def __init__(self, values):
        self.np = np.array(values, dtype=np.int32)
        self.gpu = torch.from_numpy(self.np)


def context(slots, positions, requests=None):
    """Rows of slots at positions; a request's rows follow one another."""
    owners = list(dict.fromkeys(slots)) if requests is None else requests
    upper = [1 + max(p for s, p in zip(slots, positions, strict=True) if s == o) for o in owners]
    return SimpleNamespace(
        expanded_idx_mapping=torch.tensor(slots, dtype=torch.int32),
        idx_mapping_np=np.array(owners),
        pos=torch.tensor(positions),
        seq_lens_upper_bound_np=np.array(upper),
    )
