"""Controls of a condition (`tsdi.condition`) that see less, or learn from shuffled labels.

log-odds   the first tokens of refusing answers against those of complying ones
top 20     the 20 likeliest tokens with their log-probabilities, as served models show them
shuffled   all that a condition sees, and labels that are right by chance alone

Each is fitted to the same prompts as the condition, and its h is calibrated alike.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tsdi.bias import lm_head as head
from tsdi.condition.discriminant import calibration, fit_direction
from tsdi.condition.prompts import HeadInputs
from tsdi.decoding.condition import Condition
from tsdi.errors import UsageError

SHOWN = 20
_ROWS = 64  # of logits at once


@dataclass(frozen=True, eq=False)
class LogOddsCondition(Condition):
    """A condition with h = scale x refusal log-odds + offset.

    Refusing tokens are those with a weight above 0; the weights say no more than that.

    Attributes:
        scale: Factor of the log-odds.
    """

    scale: float = 1.0

    def score(self, logits: Tensor) -> Tensor:
        """Compute h of prompts, float32 [batch], from logits [batch, width]."""
        read = logits[:, self.tokens.to(logits.device)].float()
        refusing = self.weights.to(logits.device) > 0
        odds = read[:, refusing].logsumexp(1) - read[:, ~refusing].logsumexp(1)
        return self.scale * odds + self.intercept


@dataclass(frozen=True, eq=False)
class TopCondition(Condition):
    """A condition that sees the `SHOWN` likeliest tokens only, relative to the last of them."""

    def score(self, logits: Tensor) -> Tensor:
        """Compute h of prompts, float32 [batch], from logits [batch, width]."""
        return super().score(_shown(logits))


def _shown(logits: Tensor) -> Tensor:
    """Logits of the `SHOWN` largest less the smallest of these; 0 elsewhere."""
    least = logits.float().topk(SHOWN).values[:, -1:]
    return (logits.float() - least).clamp(min=0)


def fit_log_odds(
    model: PreTrainedModel, known: HeadInputs, refusing: Collection[int], complying: Collection[int]
) -> LogOddsCondition:
    """Fit a threshold on refusal log-odds, and its scale, to labelled prompts.

    Tokens that begin both refusing and complying answers tell nothing.

    Raises:
        UsageError: If no tokens of a kind are left.
    """
    one, other = {*refusing} - {*complying}, {*complying} - {*refusing}
    if not one or not other:
        raise UsageError(
            "Refusing and complying answers begin with the same tokens.",
            "Name others as `refusing` and `complying` of the estimation.",
        )
    tokens = sorted(one | other)
    weights = [1 / len(one) if token in one else -1 / len(other) for token in tokens]
    unit = LogOddsCondition(torch.tensor(tokens), torch.tensor(weights), 0.0)
    odds = torch.cat([unit.score(part) for part in _logits(model, known)]).double()
    scale, centre = calibration(odds, known.harmful)
    return replace(unit, intercept=-scale * centre, scale=scale)


def fit_top(model: PreTrainedModel, known: HeadInputs, vocab: int) -> TopCondition:
    """Fit a condition that sees the likeliest tokens only, as a served model's client does.

    Logits beyond `vocab` tokens are padding.
    """
    rows = [_shown(part).to_sparse() for part in _logits(model, known)]
    shown = torch.cat(rows).coalesce()
    tokens = shown.indices()[1].unique()  # ascending; of the others nothing is known
    tokens = tokens[tokens < vocab]
    seen = shown.index_select(1, tokens).to_dense().double()
    seen -= seen.mean(1, keepdim=True)  # weights then add up to 0
    found = fit_direction(seen, known.harmful, known.groups)
    return TopCondition(tokens, found.vector.float(), found.intercept)


def shuffled(known: HeadInputs, seed: int) -> HeadInputs:
    """The prompts with their labels permuted at random."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(known.harmful), generator=generator)
    return replace(known, harmful=known.harmful[order])


def _logits(model: PreTrainedModel, known: HeadInputs) -> Iterator[Tensor]:
    """Logits at step 0 of all prompts, some at a time, float32 [some, width]."""
    for part in known.inputs.split(_ROWS):
        yield head.logits_from(model, part[:, None])[:, 0].cpu()
