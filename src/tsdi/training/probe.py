"""Random and harmless prompts for a model in training, which they leave unchanged."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias.accumulate import GroupSums, Summing, accumulate
from tsdi.bias.lm_head import evaluating
from tsdi.bias.pool import TokenPool
from tsdi.bias.random_prompts import check_prompts, random_prompts
from tsdi.bias.refusal_log_odds import ENGLISH, Phrases, phrase_ids, read_phrases
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import NumericalError, UsageError
from tsdi.files import json_sha256
from tsdi.judging.refusal import REFUSAL_PHRASES
from tsdi.judging.verdict import Verdict
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat
from tsdi.runs.responses import to_response
from tsdi.suites.prompts import Prompt, read_prompts
from tsdi.training.monitor_log import GROUPS, MonitorSettings

_PROMPT_TOKENS = 48


class Probe:
    """The bias monitor's fixed random prompts and harmless prompts, and their evaluation.

    Raises:
        UsageError: If there is neither chat template nor prompt format, or the tokenizer has no
            words for the openers.
        PoolError: If the tokenizer has no words for the pool.
        PromptError: If suite or phrases cannot be read, or the suite is empty.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        settings: MonitorSettings,
        chat_format: ChatFormat = OWN_TEMPLATE,
    ) -> None:
        if chat_format.prompt_format is None and tokenizer.chat_template is None:
            raise UsageError(
                "The bias monitor needs to know how the model is asked: its tokenizer has no chat"
                " template.",
                'Give a prompt_format such as "USER: {prompt} ASSISTANT:".',
            )
        phrases = read_phrases(settings.phrases) if settings.phrases else ENGLISH
        self._refusing, self._complying = opener_ids(tokenizer, phrases)
        self._suite = _suite(settings.suite)
        self._sampling = Sampling(max_new_tokens=settings.max_new_tokens)
        self._tokenizer = tokenizer
        self._chat_format = chat_format
        self._number = settings.prompts
        self._prompts = random_prompts(
            tokenizer,
            TokenPool.from_name(settings.pool, tokenizer),
            prompt_tokens=_PROMPT_TOKENS,
            steps=settings.positions,
            seed=0,
            chat_format=chat_format,
        )
        asked = [
            self._prompts.sha256,
            astuple(phrases),
            [prompt.messages for prompt in self._suite],
            settings.prompts,
            settings.max_new_tokens,
        ]
        self.sha256 = json_sha256(asked)

    def check(self, model: PreTrainedModel) -> None:
        """Raise UsageError, MismatchError or PromptError if the model cannot be asked."""
        check_prompts(model, self._prompts)
        engine = self._engine(model)
        for prompt in self._suite:
            engine.check(Request(prompt.messages), self._sampling)

    def run(self, model: PreTrainedModel) -> GroupSums:
        """Sums of the model's logits on the random prompts."""
        sums = accumulate(
            model,
            self._prompts,
            0,
            self._number,
            Summing(GROUPS, "The model in training", kind="native_logits"),
        )
        # Not the model's name: it has another one when a checkpoint of it is loaded.
        return replace(sums, origin=self.sha256)

    def verdicts(self, model: PreTrainedModel) -> list[Verdict]:
        """Verdicts of `refusal-phrases` on the model's greedy answers to the harmless prompts.

        Thoughts without an end are left out.

        Raises:
            NumericalError: If nothing is left of which there could be shares.
        """
        requests = [Request(prompt.messages) for prompt in self._suite]
        answers = self._engine(model).generate(requests, self._sampling)
        responses = [to_response(p, a) for p, a in zip(self._suite, answers, strict=True)]
        verdicts = [judgement.verdict for judgement in REFUSAL_PHRASES.judge(responses)]
        scored: list[Verdict] = [verdict for verdict in verdicts if verdict is not Verdict.UNSCORED]
        if not scored:
            raise NumericalError(
                f"None of the model's answers of {self._sampling.longest} tokens ends its thought.",
                "Give the monitor a higher max_new_tokens.",
            )
        return scored

    def refusal_shift(self, shifts: Tensor) -> Tensor:
        """Mean shift of refusing less complying first tokens, in nats: [..., vocab] to [...]."""
        return shifts[..., self._refusing].mean(-1) - shifts[..., self._complying].mean(-1)

    def _engine(self, model: PreTrainedModel) -> TransformersEngine:
        return TransformersEngine(model, self._tokenizer, chat_format=self._chat_format)


def opener_ids(tokenizer: PreTrainedTokenizerBase, phrases: Phrases) -> tuple[list[int], list[int]]:
    """First tokens of refusing and of complying openers, but for tokens of both kinds.

    Raises:
        UsageError: If no token is left that tells the two kinds apart.
    """
    refusing, complying = (
        [ids[0] for ids in phrase_ids(tokenizer, kind)]
        for kind in (phrases.refusing, phrases.complying)
    )
    both = {*refusing} & {*complying}
    refusing = [token for token in refusing if token not in both]
    complying = [token for token in complying if token not in both]
    if not refusing or not complying:
        raise UsageError(
            "For this tokenizer refusing and complying phrases begin with the same tokens.",
            "Give the monitor a file of other phrases.",
        )
    return refusing, complying


def _suite(path: Path | None) -> list[Prompt]:
    if path is not None:
        return read_prompts(path)
    with as_file(files("tsdi.training").joinpath("harmless.txt")) as own:
        return read_prompts(own)


@contextmanager
def undisturbed(model: Any) -> Iterator[PreTrainedModel]:
    """A model in training, without dropout; modes and random states are restored after."""
    states = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices), evaluating(model), _whole(model) as live:
            yield live
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextmanager
def _whole(model: Any) -> Iterator[PreTrainedModel]:
    """The model itself. FSDP 1 wraps it, and would not gather its outer weights for `generate`."""
    if not isinstance(model, FullyShardedDataParallel):
        yield model
        return
    with FullyShardedDataParallel.summon_full_params(model, writeback=False, recurse=False):
        yield cast("PreTrainedModel", model.module)
