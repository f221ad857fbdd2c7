"""A direction in the head's inputs as weights of a few tokens' logits.

Logits are z = W'x + c. For tokens T, whose columns of W are centred over T so that the weights add
up to 0, w minimises

    E (<w, z> - <v, x>)^2 + noise^2 |w|^2       over prompts x

with the covariance of prompts shrunk as in discriminant.py.

As many tokens as the head has inputs can say v exactly; the second term keeps w from growing until
the rounding of 16-bit logits decides. T are the tokens with the largest weights when all may be
used: w = W' (W W')^-1 v, the smallest weights with <w, z> = <v, x> for every x.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias import lm_head as head
from tsdi.condition.discriminant import Direction
from tsdi.errors import NumericalError
from tsdi.models.compatibility import tokenizer_size

NOISE = 0.03
"""Standard deviation of the rounding of a bfloat16 logit between 8 and 16, in logits."""


@dataclass(frozen=True)
class HeadMap:
    """The linear output layer, as a function: logits of `tokens` are inputs @ matrix + offset.

    Attributes:
        tokens: Tokens that a condition may read, int64 [candidates], ascending.
        matrix: float32 [hidden, candidates].
        offset: float32 [candidates].
    """

    tokens: Tensor
    matrix: Tensor
    offset: Tensor

    @cached_property
    def gram(self) -> Tensor:
        """W W' of the centred columns, float64 [hidden, hidden]; of large models it takes a while.

        A little is added to its diagonal, since it is summed in float32.
        """
        mean = self.matrix.mean(1).double()
        gram = (self.matrix @ self.matrix.T).double() - len(self.tokens) * mean.outer(mean)
        gram.diagonal().add_(1e-6 * gram.diagonal().mean())
        return gram


@dataclass(frozen=True)
class TokenWeights:
    """A direction as sparse weights of tokens' logits.

    Attributes:
        tokens: int64 [k], ascending.
        weights: float32 [k], adding up to 0.
        intercept: A number.
        seen: These weights as a direction in the head's inputs, for prompts without logits.
    """

    tokens: Tensor
    weights: Tensor
    intercept: float
    seen: Direction


def read_head(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, hidden: int) -> HeadMap:
    """The output layer of a model, for all tokens but the special ones.

    Special tokens are left out since engines rule some of them out, such as the end of the text
    where an answer has a least length.
    """
    special = set(tokenizer.all_special_ids)
    tokens = torch.tensor([n for n in range(tokenizer_size(tokenizer)) if n not in special])
    matrix, offset = head.output_layer(model, hidden)
    return HeadMap(tokens, matrix[:, tokens], offset[tokens])


def to_tokens(
    direction: Direction, inputs: Tensor, linear: HeadMap, number: int, noise: float = NOISE
) -> TokenWeights:
    """A direction as weights of at most this many tokens' logits.

    Args:
        direction: The direction that the weights approximate.
        inputs: Head inputs that it was fitted to, float64 [prompts, hidden].
        linear: The output layer.
        number: Most tokens.
        noise: Standard deviation of a logit's rounding, in logits.
    """
    chosen = _largest(direction.vector, linear, number)
    matrix = linear.matrix[:, chosen].double()
    matrix -= matrix.mean(1, keepdim=True)
    centred = inputs - inputs.mean(0)
    within, ridge = 1 - direction.shrinkage, direction.shrinkage * centred.square().mean()
    spread = within * centred.T @ (centred @ matrix) / len(inputs) + ridge * matrix  # C W
    normal = matrix.T @ spread
    normal.diagonal().add_(noise**2 + 1e-12 * normal.diagonal().mean())
    exact = torch.linalg.solve(normal, spread.T @ direction.vector)
    weights = (exact - exact.mean()).float()
    vector = matrix @ weights.double()
    mean = inputs.mean(0)
    logits = mean @ linear.matrix[:, chosen].double() + linear.offset[chosen].double()
    at_mean = float(direction.score(mean))
    seen = Direction(vector, at_mean - float(vector @ mean), direction.shrinkage)
    intercept = at_mean - float(weights.double() @ logits)
    return TokenWeights(linear.tokens[chosen], weights, intercept, seen)


def _largest(vector: Tensor, linear: HeadMap, number: int) -> Tensor:
    """Indices of the tokens with the largest weights, ascending."""
    try:
        along = torch.linalg.solve(linear.gram, vector)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        raise NumericalError(
            "The rows of the model's output layer do not span its inputs: a condition has none to"
            " read them by.",
            "Check its weights.",
        ) from None
    weights = linear.matrix.T @ along.float()
    largest: Tensor = (weights - weights.mean()).abs().topk(min(number, len(weights))).indices
    return largest.sort().values
