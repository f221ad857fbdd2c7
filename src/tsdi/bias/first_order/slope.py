"""The first-order term of the shift, linear in the aligned model's own logits.

TSDI's bias is the constant in E[g | u], with u the input of the aligned model's head and g the
shift. The next term is linear:

    E[g | u_i]  ~  G_i + M (u_i - mean of u_i)        for response positions i < steps
    M           =  C_gu (C_uu + ridge x I)^-1         C: covariances over prompts, within steps

Since f = W u + c and f_r = W' u_r + c', sums of head inputs alone are needed: C_gu is
W C_uu - W' C_(u_r u). On harmful prompts no change is wanted, so that g is 0 there.

M is kept as what few readings of the logits add to the bias (`tsdi.decoding.rule.Slope`):

    read:   M's most important directions, by what they move: the largest eigenvalues of
            S M' D M S, with S S = C_uu + ridge x I, D the variance under the mean next-token
            distribution; as logits, w = B' (C B B' + noise^2 I)^-1 C v says <v, u>, B being W with
            its rows centred over the tokens (as `tsdi.condition.tokens`)
    write:  what each moves

The ridge is chosen by the share of the shift that is explained on prompts held out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tsdi.bias import lm_head as head
from tsdi.bias.first_order.labelled import LEAST_PROMPTS
from tsdi.bias.first_order.rows import Rows
from tsdi.bias.folds import folds
from tsdi.bias.safety_bias import SafetyBias
from tsdi.bias.standard_error import batch_means
from tsdi.decoding.slope import Slope
from tsdi.errors import UsageError
from tsdi.models.sides import Side
from tsdi.stats.interval import Estimate
from tsdi.stats.seeds import mean_interval

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Times the mean variance of a head input."""
GROUPS = 16  # groups of prompts for the standard errors
KEPT = 0.99  # share of the slope's variance that the readings keep
MOST_READINGS = 64
NOISE = 0.03  # of a 16-bit logit, see `tsdi.condition.tokens`
LEAST_SHIFT = 1e-8  # variance over likely tokens, in squared logits
_PLACES = 512  # positions over which next-token distributions are averaged


@dataclass(frozen=True)
class Worth:
    """Cross-validated evidence for a slope.

    Attributes:
        rows: Number of prompts that the slope was fitted to.
        harmful: Number of harmful ones among them, where nothing is to change.
        ridge: Ridge, in units of the mean variance of a head input.
        rank: Number of readings.
        kept: Share of the slope's variance that these readings keep.
        constant: Share of the wanted shift that its mean explains.
        slope: Share that mean and slope explain.
        gain: `slope` - `constant`, with its interval over groups of prompts.
        prompts: Hashes (`prompt_sha256`) of labelled prompts, so that it is tuned on others.
    """

    rows: int
    harmful: int
    ridge: float
    rank: int
    kept: float
    constant: float
    slope: float
    gain: Estimate
    prompts: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """The evidence as JSON."""
        return {**vars(self), "gain": self.gain.to_dict(), "prompts": list(self.prompts)}


def with_slope(
    bias: SafetyBias,
    aligned: Side,
    reference: Side,
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
) -> SafetyBias:
    """The bias with a first-order term, fitted to rows of both models.

    Args:
        bias: The bias of order 0 of this pair.
        aligned: The aligned model.
        reference: The model before its safety step.
        rows: Head inputs of both models along the same tokens.
        tokenizer: Tokenizer of both. Special tokens are not read, as engines rule some out.

    Returns:
        Another bias, with the rows' mean shift and a slope. It has the steps at which there are
        enough rows. The same bias where no shift is wanted, as of a model and its copy.

    Raises:
        UsageError: If answers are too short for any.
    """
    enough = rows.inside.sum(0) >= LEAST_PROMPTS
    steps = int(enough.long().cumprod(0).sum())
    if not steps:
        raise UsageError(
            f"A slope is fitted to {LEAST_PROMPTS} prompts at least.", "Take more prompts."
        )
    known = rows.prompts
    one, other, inside = (part[:, :steps] for part in (rows.aligned, rows.reference, rows.inside))
    rows = Rows(one, other, inside, rows.moves, rows.groups)
    heads = _Heads.of(aligned, reference, rows, bias.vocab)
    if not _moved(rows, heads):
        return bias
    ridge, shares = _crossvalidate(rows, heads)
    moments = _Moments.of(rows)
    values, error = _constant(rows, heads)
    special = [n for n in tokenizer.all_special_ids if n < bias.vocab]
    slope, kept = _slope(moments, ridge, heads, special)
    worth = Worth(
        rows=len(rows.moves),
        harmful=int((~rows.moves).sum()),
        ridge=ridge,
        rank=len(slope.read),
        kept=kept,
        constant=shares[0],
        slope=shares[1],
        gain=shares[2],
        prompts=known,
    )
    slope = Slope(slope.read, slope.write, slope.centre, worth.to_dict())
    how = "first order, " + ("labelled prompts" if worth.harmful else "random prompts")
    return bias.derived(values, error, how, slope=slope)


@dataclass(frozen=True)
class _Heads:
    """Both output layers, as one map from [u, u_r, 1] to the shift, and token weights.

    Attributes:
        aligned: W, float32 [hidden, vocab].
        offset: c, float32 [vocab].
        shift: The map from [u, u_r, 1], float32 [hidden + hidden_r + 1, vocab].
        likely: The mean next-token distribution, float32 [vocab].
    """

    aligned: Tensor
    offset: Tensor
    shift: Tensor
    likely: Tensor

    @classmethod
    def of(cls, aligned: Side, reference: Side, rows: Rows, vocab: int) -> "_Heads":
        places = rows.inside.nonzero()
        drawn = torch.randperm(len(places), generator=torch.Generator().manual_seed(0))[:_PLACES]
        at = tuple(places[drawn].T)
        layers, likely = [], torch.zeros(vocab)
        for side, inputs in ((aligned, rows.aligned), (reference, rows.reference)):
            with side.open() as model:
                matrix, offset = head.output_layer(model, inputs.shape[-1])
            matrix, offset = matrix[:, :vocab], offset[:vocab]
            layers.append((matrix, offset))
            for some in inputs[at].split(64):
                likely += (some @ matrix + offset).softmax(-1).sum(0) / (2 * len(drawn))
        (one, here), (other, there) = layers
        return cls(one, here, torch.cat([one, -other, (here - there)[None]]), likely)

    @cached_property
    def gram(self) -> Tensor:
        """The variance of the shift under `likely` as a quadratic form of [u, u_r, 1], float64."""
        mean = (self.shift @ self.likely).double()
        return ((self.shift * self.likely) @ self.shift.T).double() - mean.outer(mean)


@dataclass(frozen=True)
class _Moments:
    """Means by step of u and of the wanted shift, and covariances within steps, in float64.

    Attributes:
        mean: Mean of u, [steps, hidden].
        wanted: Mean of [u, u_r, 1], 0 where nothing is to change, [steps, width].
        inputs: Covariance of u, [hidden, hidden].
        cross: Covariance of u with [u, u_r, 1] as in `wanted`, [hidden, width].
    """

    mean: Tensor
    wanted: Tensor
    inputs: Tensor
    cross: Tensor

    @classmethod
    def of(cls, rows: Rows) -> "_Moments":
        u, wanted, inside = _centrable(rows)
        count = inside.sum(0).clamp(min=1)[:, None]
        mean, target = (part.sum(0) / count for part in (u, wanted))
        u, wanted = ((part - at) * inside[..., None] for part, at in ((u, mean), (wanted, target)))
        flat = u.flatten(0, 1)
        total = inside.sum()
        return cls(mean, target, flat.T @ flat / total, flat.T @ wanted.flatten(0, 1) / total)

    def shrunk(self, ridge: float) -> Tensor:
        """The ridge-regularised covariance: C_uu + ridge x its mean variance x I."""
        shrunk = self.inputs.clone()
        shrunk.diagonal().add_(ridge * self.inputs.diagonal().mean() + 1e-12)
        return shrunk

    def fit(self, ridge: float) -> Tensor:
        """Ridge coefficients from u to the wanted [u, u_r, 1], float64 [hidden, width]."""
        moved: Tensor = torch.linalg.solve(self.shrunk(ridge), self.cross)
        return moved


def _centrable(rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """U, the wanted [u, u_r, 1], and a mask of answers, float64; 0 outside of answers."""
    inside = rows.inside.double()
    u, other = (part.double() * inside[..., None] for part in (rows.aligned, rows.reference))
    wanted = torch.cat([u, other, inside[..., None]], -1) * rows.moves[:, None, None]
    return u, wanted, inside


def _crossvalidate(rows: Rows, heads: _Heads) -> tuple[float, tuple[float, float, Estimate]]:
    """The ridge that explains most on held-out prompts, and the shares explained there."""
    prompts = len(rows.moves)
    total, left = torch.zeros(prompts).double(), torch.zeros(len(RIDGES) + 1, prompts).double()
    for test in folds(~rows.moves, rows.groups):
        moments = _Moments.of(rows.at(~test))
        u, wanted, inside = _centrable(rows.at(test))
        total[test] = _size(wanted, heads)
        u, wanted = ((x - m) * inside[..., None] for x, m in
                     ((u, moments.mean), (wanted, moments.wanted)))  # fmt: skip
        left[0, test] = _size(wanted, heads)
        for n, ridge in enumerate(RIDGES, start=1):
            left[n, test] = _size(wanted - u @ moments.fit(ridge), heads)
    shares = (1 - left.sum(1) / total.sum()).tolist()
    best = max(range(1, len(shares)), key=lambda n: shares[n])
    names = {name: n for n, name in enumerate(dict.fromkeys(rows.groups))}
    group = torch.tensor([names[name] for name in rows.groups])
    gains = torch.zeros(len(names)).double().index_add_(0, group, left[0] - left[best])
    gains *= len(names) / total.sum()  # near copies are one observation
    return RIDGES[best - 1], (shares[0], shares[best], mean_interval(gains.tolist()))


def _moved(rows: Rows, heads: _Heads) -> bool:
    """Whether any shift is wanted, beyond rounding."""
    _, wanted, inside = _centrable(rows)
    return float(_size(wanted, heads).sum()) > LEAST_SHIFT * float(inside.sum())


def _size(wanted: Tensor, heads: _Heads) -> Tensor:
    """The variance of shifts under `likely`, summed over the steps of each prompt."""
    sizes: Tensor = ((wanted @ heads.gram) * wanted).sum((1, 2))
    return sizes


def _constant(rows: Rows, heads: _Heads) -> tuple[Tensor, Tensor]:
    """The mean shift that is wanted, and its standard error from groups of prompts."""
    _, wanted, inside = _centrable(rows)
    group = torch.arange(len(inside)) % GROUPS
    values: list[Tensor] = []
    errors: list[Tensor] = []
    for step in range(inside.shape[1]):
        counts = torch.zeros(GROUPS).double().index_add_(0, group, inside[:, step])
        sums = torch.zeros(GROUPS, wanted.shape[-1]).double().index_add_(0, group, wanted[:, step])
        filled = counts > 0
        shifts = ((sums[filled] / counts[filled, None]).float() @ heads.shift).double()
        shifts -= shifts.mean(-1, keepdim=True)
        for kept, found in zip((values, errors), batch_means(shifts, counts[filled]), strict=True):
            kept.append(found.float())
    return torch.stack(values), torch.stack(errors)


def _slope(
    moments: _Moments, ridge: float, heads: _Heads, special: list[int]
) -> tuple[Slope, float]:
    """The slope as readings of logits, and the share of its variance that they keep."""
    moved, shrunk = moments.fit(ridge), moments.shrunk(ridge)
    sizes, axes = torch.linalg.eigh(shrunk)
    root, inverse = ((axes * sizes.clamp(min=1e-12) ** power) @ axes.T for power in (0.5, -0.5))
    size, directions = torch.linalg.eigh(root @ moved @ heads.gram @ moved.T @ root)
    size, directions = size.flip(0).clamp(min=0), directions.flip(1)
    kept = size.cumsum(0) / size.sum().clamp(min=1e-300)
    rank = min(int((kept < KEPT).sum()) + 1, MOST_READINGS, len(kept))
    chosen = directions[:, :rank]
    write = (chosen.T @ root @ moved).float() @ heads.shift
    write -= write.mean(-1, keepdim=True)
    read = _as_logits(inverse @ chosen, moments.inputs, heads.aligned, special)
    logits = moments.mean.float() @ heads.aligned + heads.offset
    return Slope(read, write, logits @ read.T), float(kept[rank - 1])


def _as_logits(vectors: Tensor, inputs: Tensor, matrix: Tensor, special: list[int]) -> Tensor:
    """Directions of u [hidden, rank] as weights of logits, float32 [rank, vocab]."""
    ordinary = torch.ones(matrix.shape[1])
    ordinary[special] = 0.0
    centred = (matrix - (matrix @ ordinary / ordinary.sum())[:, None]) * ordinary
    gram = (centred @ centred.T).double()
    normal = inputs @ gram
    normal.diagonal().add_(NOISE**2)
    along: Tensor = torch.linalg.solve(normal, inputs @ vectors)
    return (along.float().T @ centred).contiguous()
