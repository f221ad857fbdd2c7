"""Sums of raw logits in vLLM: a logits processor that adds and forces, and what fetches the sums.

Each request is a random prompt, says its group and brings its random response. At every step the
row's raw logits, in float32, are added to those of (group, step) in float64, and the response's
token is forced, so that generation reads the random response. One class for vLLM's V1 engine and
for Model Runner V2, as in `tsdi.engines.vllm_plugin`.

In V1 a prompt that is read in parts, or read again, would be added twice; the counts show that.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from vllm.distributed import get_pp_group, get_tp_group
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate
from vllm.v1.sample.logits_processor import LogitsProcessor as V1Processor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from tsdi.files import write_bytes

try:
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as V2Processor
except ImportError:  # vLLM before 0.31, which has V1 alone
    V2Processor = object

CONFIG, GROUP, FORCED = "tsdi_sums", "tsdi_group", "tsdi_forced"
_MADE: list["SumLogits"] = []
"""The processor of this process; vLLM makes another one only in place of it."""


class SumLogits(V1Processor, V2Processor):  # type: ignore[misc]  # vLLM is not typed for us
    """Adds the logits of every (group, step) and forces each request's response.

    Args:
        vllm_config: vLLM's configuration; additional_config says groups and steps.
        rest: V1's (device, is_pin_memory), or V2's (req_states,).
    """

    def __init__(self, vllm_config: Any, *rest: Any) -> None:
        config = vllm_config.additional_config[CONFIG]
        self._groups, self._steps = config["groups"], config["steps"]
        self._vocab = vllm_config.model_config.get_vocab_size()
        v2 = len(rest) == 1
        self._device = rest[0].device if v2 else rest[0]
        places = self._groups * self._steps + 1  # the last one takes rows that are not added
        self._sums = torch.zeros(places, self._vocab, dtype=torch.float64, device=self._device)
        self._counts = torch.zeros(places, dtype=torch.int64, device=self._device)
        self._rows: dict[int, tuple[int, list[int], list[int]]] = {}  # V1: group, forced, answer
        if v2:
            slots = rest[0].max_num_reqs
            self._states = rest[0]
            self._slot_groups = torch.full((slots,), -1, device=self._device)
            shape = slots, self._steps
            self._slot_forced = torch.zeros(shape, dtype=torch.long, device=self._device)
            self._staged: dict[int, tuple[int, list[int]]] = {}
        _MADE[:] = [self]

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Let all pass: the requests are our own."""

    def is_argmax_invariant(self) -> bool:
        """False: tokens are forced."""
        return False

    def take(self) -> dict[str, Tensor]:
        """The sums float64 [groups, steps, vocab] and counts int64 [groups, steps] so far.

        What comes afterwards is added from 0 on.
        """
        shape = self._groups, self._steps
        taken = {
            "sums": self._sums[:-1].view(*shape, self._vocab).to("cpu", copy=True),
            "counts": self._counts[:-1].view(*shape).to("cpu", copy=True),
        }
        self._sums.zero_()
        self._counts.zero_()
        return taken

    def apply(self, logits: Tensor, ctx: Any = None) -> Tensor:
        """Add the rows' logits [rows, width], and force their tokens, in place."""
        return self._apply_v1(logits) if ctx is None else self._apply_v2(logits, ctx)

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Keep group, response and live answer of every row."""

        def entry(
            params: SamplingParams, prompt: Any, answer: list[int]
        ) -> tuple[int, list[int], list[int]] | None:
            asked = params.extra_args or {}
            return (asked[GROUP], asked[FORCED], answer) if GROUP in asked else None

        process_dict_updates(self._rows, batch_update, entry)

    def _apply_v1(self, logits: Tensor) -> Tensor:
        found = [
            (row, group * self._steps + len(answer), forced[len(answer)])
            for row, (group, forced, answer) in self._rows.items()
            if len(answer) < self._steps
        ]
        if found:
            rows, places, tokens = torch.tensor(found, device=self._device).unbind(1)
            every = [row for row, _, _ in found] == list(range(len(logits)))
            self._add(logits if every else logits[rows], places)  # the rows' copy costs most here
            logits[rows] = -torch.inf
            logits[rows, tokens] = 0.0
        return logits

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Take a request's group and response; False for one of vLLM's own, as to warm up."""
        asked = sampling_params.extra_args or {}
        self._staged[req_idx] = asked.get(GROUP, -1), asked.get(FORCED, [0] * self._steps)
        return GROUP in asked

    def apply_staged_writes(self) -> None:
        """Bring groups and responses of new requests to the device, all at once."""
        if not self._staged:
            return
        slots = torch.from_numpy(np.array(list(self._staged))).to(self._device)
        groups, forced = zip(*self._staged.values(), strict=True)
        self._slot_groups[slots] = torch.tensor(groups).to(self._device)
        self._slot_forced[slots] = torch.tensor(forced).to(self._device)
        self._staged.clear()

    def _apply_v2(self, logits: Tensor, ctx: Any) -> Tensor:
        slots = ctx.expanded_idx_mapping.long()
        steps = (ctx.pos + 1 - self._states.prompt_len.gpu[slots]).long()
        groups = self._slot_groups[slots]
        ours = (groups >= 0) & (steps >= 0) & (steps < self._steps)
        places = (groups * self._steps + steps).where(ours, len(self._counts) - 1)
        self._add(logits, places)
        tokens = self._slot_forced[slots, steps.clamp(0, self._steps - 1)]
        logits.masked_fill_(ours[:, None], -torch.inf)
        logits.scatter_(
            1, tokens[:, None], logits.gather(1, tokens[:, None]).where(~ours[:, None], 0)
        )
        return logits

    def _add(self, logits: Tensor, places: Tensor) -> None:
        self._sums.index_add_(0, places, logits[:, : self._vocab].double())
        self._counts.index_add_(0, places, torch.ones_like(places))


class TakeSums:
    """What vLLM's workers can do besides: their ``worker_extension_cls``."""

    def take_sums(self, path: str) -> bool:
        """Write the sums so far to a file, and begin anew; one worker alone does.

        Of several workers with parts of each layer all have the same logits.
        """
        if not get_pp_group().is_last_rank or get_tp_group().rank_in_group:
            return False
        write_bytes(Path(path), save(_MADE[0].take()))
        return True
