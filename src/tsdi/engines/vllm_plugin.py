"""The safety bias in vLLM: one logits processor for its V1 engine and for Model Runner V2.

Offline ``LLM(..., logits_processors=["tsdi.engines.vllm_plugin:SafetyDebias"])``, the server with
``--logits-processors tsdi.engines.vllm_plugin:SafetyDebias``. Which bias:
``additional_config={"tsdi": {"bias": FOLDER, "strength": 1.0}}``, else the environment's TSDI_BIAS
and TSDI_STRENGTH. Without a strength it is that of the bias's condition, for each prompt its own,
or the recommended one. A request may bring a setting of its own (`tsdi.engines.vllm_arguments`):
strength, 0 being off, or low, high, width and threshold of the condition; steps, decay and order.
So fifty settings are requests of one server, which reads a prompt once for all of them.

Two interfaces, since vLLM has two engines whose processors know nothing of each other: V1 tells
which rows joined, left and moved, and holds each row's answer so far; V2 gives positions on the
device, and a row for every draft token.

A condition reads the logits of step 0, which a request that was preempted and resumed does not pass
again. So the strength that it set is kept with the request's own parameters, which vLLM holds as
long as the request lives.
"""

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate
from vllm.v1.sample.logits_processor import LogitsProcessor as V1Processor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from tsdi.bias import SafetyBias
from tsdi.decoding.condition import Condition, Strength
from tsdi.decoding.rule import check_strength
from tsdi.engines.vllm_arguments import Asked
from tsdi.errors import UsageError
from tsdi.models.load import LoadOptions, load_tokenizer

try:
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as V2Processor
except ImportError:  # vLLM before 0.31, which has V1 alone
    V2Processor = object

BIAS, STRENGTH = "TSDI_BIAS", "TSDI_STRENGTH"
_KEPT = "_tsdi_kept"  # among a request's arguments; a tensor, which no client can send
_LOG = logging.getLogger(__name__)


class _Setting(NamedTuple):
    """The setting of a request, as a row of numbers on the device."""

    strength: float  # as long as a condition has not set it, low
    low: float
    high: float
    width: float
    threshold: float
    steps: float
    decay: float
    order: float


_STRENGTH, _LOW, _THRESHOLD, _STEPS, _DECAY, _ORDER = 0, 1, 4, 5, 6, 7  # columns of these rows


@dataclass
class _Row:
    """A row of V1 that is still to be debiased.

    Attributes:
        answer: Its answer so far, which vLLM makes longer.
        setting: What the request asks for, and the server gives.
        kept: The strength that the condition set, a tensor of no dimensions; None before.
        params: The request's, if the condition sets its strength; else None.
    """

    answer: list[int]
    setting: _Setting
    kept: Tensor | None
    params: SamplingParams | None


class SafetyDebias(V1Processor, V2Processor):  # type: ignore[misc]  # vLLM is not typed for us
    """Subtracts strength x bias[i] from the logits of response token i.

    Args:
        vllm_config: vLLM's configuration.
        rest: V1's (device, is_pin_memory), or V2's (req_states,).

    Raises:
        UsageError: If no bias is named, or vLLM is set up to decode in a way that would drop it.
        MismatchError: If the bias is not for this model and tokenizer.
    """

    def __init__(self, vllm_config: Any, *rest: Any) -> None:
        v2 = len(rest) == 1
        bias, self._strength = _configured(vllm_config)
        _check_kept(vllm_config, bias, v2)
        _check_belongs(vllm_config, bias)
        self._steps, self._vocab = bias.steps, bias.vocab
        self._device = rest[0].device if v2 else rest[0]
        self._table = bias.values.to(self._device)
        self._slope = None if bias.slope is None else bias.slope.to(self._device)
        self._condition = bias.condition
        self._warned = False
        self._young: dict[int, _Row] = {}  # V1
        self._ordered: list[_Row] = []
        if v2:
            slots = rest[0].max_num_reqs
            self._states = rest[0]
            self._drafts = vllm_config.speculative_config is not None
            self._settings = torch.zeros(slots, len(_Setting._fields), device=self._device)
            self._on_host = np.zeros(slots, dtype=np.float32)  # strengths; NaN: by prompt
            self._ends = np.zeros(slots, dtype=np.float32)  # steps
            self._staged: dict[int, tuple[_Setting, Tensor | None]] = {}
            self._by_prompt = torch.zeros(slots, dtype=torch.bool, device=self._device)
            self._unkept: dict[int, SamplingParams] = {}

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Raise ValueError, which the server answers with HTTP 400, unless the setting is one."""
        Asked.read(sampling_params.extra_args)

    def is_argmax_invariant(self) -> bool:
        """False: greedy choices change, so vLLM must not skip this processor."""
        return False

    def apply(self, logits: Tensor, ctx: Any = None) -> Tensor:
        """Debiased logits, in place: [rows, width]; V2 brings the rows' positions with it."""
        return self._apply_v1(logits) if ctx is None else self._apply_v2(logits, ctx)

    def _setting(self, params: SamplingParams) -> tuple[_Setting, bool]:
        """The setting of a request, and whether the condition is to set its strength."""
        asked = Asked.read({k: v for k, v in (params.extra_args or {}).items() if k != _KEPT})
        rest = (
            min(asked.steps or self._steps, self._steps),
            1.0 if asked.decay is None else asked.decay,
            1.0 if asked.order is None else asked.order,
        )
        named = self._strength if asked.strength is None else asked.strength
        own, by_prompt = self._condition, asked.by_prompt or isinstance(named, Condition)
        if by_prompt and own is None:  # a class method could not refuse the request
            if not self._warned:
                _LOG.warning("The bias has no condition: requests with tsdi_low get that strength.")
            self._warned, by_prompt = True, False
            named = named if asked.low is None else asked.low
        if not by_prompt:
            assert isinstance(named, float | int)
            return _Setting(named, 0.0, 0.0, 1.0, 0.0, *rest), False
        assert own is not None
        low, high = (own.low, own.high) if asked.low is None else (asked.low, asked.high)
        assert high is not None
        where = asked.width or own.width, asked.threshold or 0.0
        return _Setting(low, low, high, *where, *rest), True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Keep setting and live answer of every row that is still to be debiased."""

        def entry(params: SamplingParams, prompt: Any, answer: list[int]) -> _Row | None:
            setting, by_prompt = self._setting(params)
            if len(answer) >= setting.steps or not (by_prompt or setting.strength):
                return None
            if by_prompt:
                return _Row(answer, setting, _kept(params), params)
            return _Row(answer, setting, None, None)

        process_dict_updates(self._young, batch_update, entry)
        if batch_update is not None:
            self._arrange()

    def _arrange(self) -> None:
        """Arrange the rows for `apply`; valid until the batch changes."""
        self._ordered = list(self._young.values())
        self._rows = torch.tensor(list(self._young), dtype=torch.long, device=self._device)
        settings = [row.setting for row in self._ordered]
        width = len(_Setting._fields)
        self._row_settings = torch.tensor(settings, device=self._device).reshape(-1, width)
        for place, row in enumerate(self._ordered):
            if row.kept is not None:
                self._row_settings[place, _STRENGTH] = row.kept
        self._asking = np.array([row.params is not None for row in self._ordered], dtype=bool)
        self._row_ends = np.array([setting.steps for setting in settings])

    def _shift(self, logits: Tensor, steps: Tensor, settings: Tensor) -> Tensor:
        """What is subtracted from logits: [rows, vocab], each row at its step and setting."""
        shift = self._table[steps]
        if self._slope is not None:
            shift = shift + settings[:, _ORDER, None] * self._slope.shift(logits, steps)
        return (settings[:, _STRENGTH] * settings[:, _DECAY] ** steps)[:, None] * shift

    def _strength_of(self, logits: Tensor, settings: Tensor) -> Tensor:
        """The strengths that the condition sets by logits of step 0, [rows]."""
        assert self._condition is not None
        low, high, width, threshold = settings[:, _LOW : _THRESHOLD + 1].unbind(1)
        return self._condition.strength_between(logits, low, high, width, threshold)

    def _apply_v1(self, logits: Tensor) -> Tensor:
        # The step is the answer's length, which vLLM keeps; calls cannot be counted, as prompts
        # that are read in parts pass here too. No Python loop over rows, but when some are done.
        steps = self._v1_steps()
        if (done := steps >= self._row_ends[: len(steps)]).any():
            kept = zip(self._young.items(), done, strict=True)
            self._young = {row: one for (row, one), over in kept if not over}
            self._arrange()
            steps = steps[~done]
        if not len(steps):
            return logits
        if (first := np.flatnonzero(self._asking & (steps == 0))).size:
            self._read_condition(logits, first)
        places = torch.from_numpy(steps).to(self._device)
        shift = self._shift(logits[self._rows], places, self._row_settings)
        logits[:, : self._vocab].index_add_(0, self._rows, shift.to(logits.dtype), alpha=-1)
        return logits

    def _v1_steps(self) -> Any:
        lengths = (len(row.answer) for row in self._ordered)
        return np.fromiter(lengths, dtype=np.int64, count=len(self._ordered))

    def _read_condition(self, logits: Tensor, first: Any) -> None:
        """Set the strength of the rows that are at step 0; of a prompt's parts the last one counts.

        Nothing waits for the device: strengths stay there.
        """
        places = torch.from_numpy(first).to(self._device)
        found = self._strength_of(logits[self._rows[places]], self._row_settings[places])
        self._row_settings[places, _STRENGTH] = found
        for place, strength in zip(first.tolist(), found.unbind(), strict=True):
            row = self._ordered[place]
            row.kept = strength
            _keep(row.params, strength)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Take a request's setting; returns whether the request is debiased at all."""
        setting, by_prompt = self._setting(sampling_params)
        self._unkept.pop(req_idx, None)
        self._staged[req_idx] = setting, _kept(sampling_params) if by_prompt else None
        self._on_host[req_idx] = np.nan if by_prompt else setting.strength
        self._ends[req_idx] = setting.steps
        if by_prompt:
            self._unkept[req_idx] = sampling_params
        return bool(self._on_host[req_idx])

    def apply_staged_writes(self) -> None:
        """Bring the settings of new requests to the device, all at once but for resumed ones."""
        if not self._staged:
            return
        slots = np.array(sorted(self._staged))
        places = torch.from_numpy(slots).to(self._device)
        staged = [self._staged[slot] for slot in slots.tolist()]
        numbers = torch.tensor([setting for setting, _ in staged], dtype=torch.float32)
        self._settings[places] = numbers.to(self._device)
        for slot, (_, kept) in zip(slots.tolist(), staged, strict=True):
            if kept is not None:
                self._settings[slot, _STRENGTH] = kept
        by_prompt = torch.from_numpy(np.isnan(self._on_host[slots]))
        self._by_prompt[places] = by_prompt.to(self._device)
        self._staged.clear()

    def _apply_v2(self, logits: Tensor, ctx: Any) -> Tensor:
        if not self._drafts and not self._any_young(ctx):  # with drafts, the host knows no steps
            return logits
        slots = ctx.expanded_idx_mapping.long()
        steps = (ctx.pos + 1 - self._states.prompt_len.gpu[slots]).long()
        if self._condition is not None:
            self._read_first(logits, slots, steps, ctx)
        settings = self._settings[slots]
        inside = (steps >= 0) & (steps < settings[:, _STEPS])
        shift = self._shift(logits, steps.clamp(0, self._steps - 1), settings)
        logits[:, : self._vocab] -= shift.where(inside[:, None], 0.0).to(logits.dtype)
        return logits

    def _read_first(self, logits: Tensor, slots: Tensor, steps: Tensor, ctx: Any) -> None:
        """Set the strengths of the rows that are at step 0, without waiting for the device."""
        first = (steps == 0) & self._by_prompt[slots]
        settings = self._settings[slots]
        change = self._strength_of(logits, settings) - settings[:, _STRENGTH]
        # Rows of drafts share a slot, so the others of a request add 0.
        self._settings[:, _STRENGTH].index_add_(0, slots, change.where(first, 0.0))
        owners = ctx.idx_mapping_np
        read = ctx.seq_lens_upper_bound_np[: len(owners)] >= self._states.prompt_len.np[owners]
        for slot in owners[read].tolist():
            if slot in self._unkept:
                _keep(self._unkept.pop(slot), self._settings[slot, _STRENGTH].clone())

    def _any_young(self, ctx: Any) -> bool:
        """Whether any request in the batch is still to be debiased; asks the host alone."""
        slots = ctx.idx_mapping_np
        steps = ctx.seq_lens_upper_bound_np[: len(slots)] - self._states.prompt_len.np[slots]
        return bool(((steps < self._ends[slots]) & (self._on_host[slots] != 0)).any())


def _kept(params: SamplingParams) -> Tensor | None:
    """The strength that the condition set for a request.

    There is none before step 0, and where another process decoded that: then low counts.
    """
    kept = (params.extra_args or {}).get(_KEPT)
    return kept if isinstance(kept, Tensor) else None


def _keep(params: SamplingParams | None, strength: Tensor) -> None:
    """Keep a strength with a request, for when it is resumed."""
    assert params is not None
    params.extra_args = {**(params.extra_args or {}), _KEPT: strength}


def _configured(vllm_config: Any) -> tuple[SafetyBias, Strength]:
    """The bias that vLLM's additional config names, or the environment, and its strength."""
    config = getattr(vllm_config, "additional_config", None)
    named = config.get("tsdi", {}) if isinstance(config, dict) else {}
    unknown = sorted(set(named) - {"bias", "strength"})
    if unknown:
        raise UsageError(
            f"additional_config's tsdi has an unknown key {unknown[0]!r}.",
            "It takes bias and strength.",
        )
    folder = named.get("bias") or os.environ.get(BIAS)
    if not folder:
        raise UsageError(
            "vLLM is to debias, but no bias is named.",
            f"Set {BIAS} to its folder or hub id, or additional_config to"
            ' {"tsdi": {"bias": ...}}.',
        )
    bias = SafetyBias.from_pretrained(folder)
    strength = named.get("strength", os.environ.get(STRENGTH))
    if strength is None:
        return bias, bias.strength_or_condition(None)
    with suppress(TypeError, ValueError):
        strength = float(strength)  # the environment's is a text
    return bias, check_strength(strength)


def _check_kept(vllm_config: Any, bias: SafetyBias, v2: bool) -> None:
    """Raise UsageError where the rule would be dropped or misplaced."""
    if not v2 and vllm_config.speculative_config is not None:
        raise UsageError(
            "vLLM's V1 engine gives logits processors no drafted tokens, so that speculative"
            " decoding would drop the bias.",
            "Leave out --speculative-config.",
        )
    bias.check_no_anchor()


def _check_belongs(vllm_config: Any, bias: SafetyBias) -> None:
    """Raise MismatchError unless the bias is for this server's model and tokenizer."""
    model = vllm_config.model_config
    bias.check_width(model.get_vocab_size())
    if not model.skip_tokenizer_init:
        options = LoadOptions(trust_remote_code=model.trust_remote_code)
        revision = getattr(model, "tokenizer_revision", None)
        named = f"{model.tokenizer}@{revision}" if revision else model.tokenizer
        bias.check(load_tokenizer(named, options))
