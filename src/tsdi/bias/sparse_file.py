"""The sparse form of a bias: of every step the tokens that are not 0, such as the top k."""

from collections.abc import Mapping

import torch
from torch import Tensor

FIELD = "tokens_per_step"
LARGEST = 2**28
"""Numbers that a bias may have when it is read: a small file must not fill the memory."""
_BYTES, _SPARSE_BYTES = 8, 12
"""Of a value and its error in float32, and of these and their token in int32."""


def kept_tokens(values: Tensor, error: Tensor) -> int | None:
    """How many tokens of every step the sparse form holds; None where it is not the smaller one.

    Args:
        values: float32 [steps, vocab].
        error: float32 [steps, vocab].
    """
    most = max(1, int(_kept(values, error).sum(1).max()))
    return most if _SPARSE_BYTES * most < _BYTES * values.shape[1] else None


def sparse_tensors(values: Tensor, error: Tensor, kept: int) -> dict[str, Tensor]:
    """Values and errors [steps, kept] of the tokens that are kept, and these, ascending."""
    first = torch.sort(_kept(values, error).byte(), dim=1, descending=True, stable=True).indices
    tokens = first[:, :kept].sort(dim=1).values
    picked = {"bias": values.gather(1, tokens), "error": error.gather(1, tokens)}
    return {**picked, "bias_tokens": tokens.to(torch.int32)}


def check_tokens(tensors: Mapping[str, Tensor], kept: int, shape: tuple[int, int]) -> None:
    """Raise ValueError unless there are as many ascending tokens of a bias of this shape."""
    if shape[0] * shape[1] > LARGEST:
        raise ValueError(f"{shape[0]} steps x {shape[1]} tokens are more than {LARGEST:,} numbers")
    tokens = tensors.get("bias_tokens")
    if tokens is None or tokens.dtype != torch.int32 or tuple(tokens.shape) != (shape[0], kept):
        raise ValueError(f"'bias_tokens' must be there as int32 [{shape[0]}, {kept}]")
    ascend = bool((tokens.diff(dim=1) > 0).all())
    if not ascend or int(tokens.min()) < 0 or int(tokens.max()) >= shape[1]:
        raise ValueError(f"'bias_tokens' must ascend, from 0 to {shape[1] - 1} at most")


def dense_tensors(tensors: Mapping[str, Tensor], vocab: int) -> dict[str, Tensor]:
    """Values and errors [steps, vocab] from the sparse form, 0 where no token is kept."""
    tokens = tensors["bias_tokens"].long()
    return {
        name: torch.zeros(len(tokens), vocab).scatter_(1, tokens, tensors[name].float())
        for name in ("bias", "error")
    }


def _kept(values: Tensor, error: Tensor) -> Tensor:
    return (values != 0) | (error != 0)
