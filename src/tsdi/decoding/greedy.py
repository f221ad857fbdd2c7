"""Greedy decoding by transformers' ``generate``, without a checkpoint's own settings."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
)

from tsdi.decoding.end_tokens import end_ids
from tsdi.decoding.prompt_states import PromptStates


def pad_id(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """An id to pad with that the model can read; its positions are masked."""
    weight: Any = model.get_input_embeddings().weight
    pad = tokenizer.pad_token_id
    return int(pad) if pad is not None and pad < weight.shape[0] else 0


def pad_left(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Token ids padded on the left and their mask, 0 for padding: both int64 [rows, longest]."""
    longest = max(map(len, rows))
    ids = [[pad] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def generate_greedily(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    processors: Sequence[LogitsProcessor] = (),
    *,
    keep_logits: bool = False,
    stops: Sequence[StoppingCriteria] = (),
    states: PromptStates | None = None,
) -> tuple[list[list[int]], Tensor | None]:
    """Decode greedily after the given processors and nothing else.

    A checkpoint's generation config (repetition penalty, beams, stop strings ...) is left out, as
    it would change the logits or the choice.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        prompts: Token ids of every prompt, padded here on the left.
        max_new_tokens: Most tokens in an answer.
        processors: See the prompts in one left-padded batch.
        keep_logits: Return the logits too.
        stops: Criteria that are asked after each token whether to stop.
        states: Where the model's states of prompts are kept; None keeps none.

    Returns:
        Token ids of every answer, filled up behind its end, and float32 logits after the
        processors [batch, tokens, vocab] on the CPU, if asked for.
    """
    pad = pad_id(model, tokenizer)
    ids, mask = pad_left(prompts, pad)
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=end_ids(tokenizer, model.generation_config, model.config) or None,
        pad_token_id=pad,
        return_dict_in_generate=True,
        output_scores=keep_logits,
    )
    generate: Any = model.generate
    with _bare_config(model):
        output = generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            logits_processor=list(processors),
            stopping_criteria=list(stops),
            generation_config=settings,
            **({} if states is None else states.arguments(ids, mask)),
        )
    logits = torch.stack(output.scores, 1).float().cpu() if keep_logits else None
    return output.sequences[:, ids.shape[1] :].tolist(), logits


@torch.no_grad()
def ignores_mask(model: PreTrainedModel) -> bool:
    """Whether masked tokens to the left of a prompt change what follows it.

    They do in recurrent models that know no mask (RWKV, RecurrentGemma) and with virtual tokens
    that come before the padding (prompt tuning, p-tuning): such a model answers prompts of
    different lengths one by one. It is found out by one short prompt, alone and behind tokens that
    are masked, and told from rounding.
    """
    weight: Any = model.get_input_embeddings().weight
    drawn = torch.randint(weight.shape[0], (2, 24), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(drawn)
    mask[0, :-4] = 0
    alone = _next_logits(model, drawn[:1, -4:], mask[:1, -4:])
    padded = _next_logits(model, drawn, mask)
    error = (padded[0] - alone[0]).square().mean().sqrt() / alone[0].std()
    # Rounding to bfloat16 makes up to .06 of it, another text 1 to 2 (SmolLM2).
    return bool(error > (0.01 if model.dtype == torch.float32 else 0.2))


def _next_logits(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Logits of the token after each row, as ``generate`` has them, float64 [rows, vocab]."""
    settings = GenerationConfig(
        max_new_tokens=1, pad_token_id=0, return_dict_in_generate=True, output_logits=True
    )
    generate: Any = model.generate
    with _bare_config(model):
        output = generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=settings,
        )
    logits: Tensor = output.logits[0].double()
    return logits


@contextmanager
def _bare_config(model: Any) -> Iterator[None]:
    # generate() fills what the given config leaves open from the model's own.
    owner = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = owner.generation_config
    owner.generation_config = GenerationConfig()
    try:
        yield
    finally:
        owner.generation_config = own
