"""Sampling that depends on seed, prompt and step only, in every engine and batch."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def gumbel_noise(prompt: Sequence[int], seed: int, step: int, size: int) -> Tensor:
    """Noise for the Gumbel-max trick: argmax(logits / temperature + noise) draws from softmax.

    Args:
        prompt: The prompt's token ids.
        seed: The caller's seed; the same one gives the same text for the same prompt.
        step: Response position.
        size: Number of logits.

    Returns:
        float32 [size], on the CPU.

    Source: Gumbel (1954); Maddison et al. (2014), arXiv 1411.0030.
    """
    digest = hashlib.sha256(f"{seed} {list(prompt)}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:6]) + step)
    return -torch.empty(size).exponential_(generator=generator).log()
