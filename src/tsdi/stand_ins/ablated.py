"""The model itself, its false-refusal direction ablated, in place of the reference.

The direction leads from harmless prompts to lookalikes, the harmful ones' taken out of it, in the
residual stream at the end of a prompt (Wang et al. 2025, arXiv 2410.03415). They ablate it from
the model that answers; here the model without it is what the model is compared with, once, on
random prompts.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor
from transformers import PreTrainedModel

from tsdi.baselines.directions import (
    ablated,
    false_refusal_direction,
    mean_activations,
    refusal_direction,
)
from tsdi.bias import SafetyBias, estimate_bias
from tsdi.errors import PromptError
from tsdi.models.sides import Side
from tsdi.stand_ins.info import as_stand_in
from tsdi.stand_ins.names import ABLATED, PARTLY_ABLATED
from tsdi.stand_ins.subject import LEAST, Subject

DEPTHS = (0.25, 0.4, 0.55, 0.7)
"""Shares of the model's layers after which a direction is tried."""
SHARES = (0.5, 0.25, 0.75, 1.0)
"""Shares of the direction that are taken out; with the first one the layer is chosen."""
MOST_READ = 24  # validation prompts of a kind, for every layer and share


@dataclass(frozen=True, eq=False)
class Ablation:
    """A direction with the share of it that is taken out.

    Attributes:
        layer: Decoder layers before the place where it was found.
        share: Share that is taken out, 1 is all.
        direction: A unit vector, float64 [hidden].
    """

    layer: int
    share: float
    direction: Tensor

    def side(self, of: Side) -> Side:
        """The model of a side without the direction."""

        @contextmanager
        def changed() -> Iterator[PreTrainedModel]:
            with of.open() as model, ablated(model, self.direction, self.share):
                yield model

        part = "" if self.share == 1 else f"{self.share:.0%} of "
        name = f"itself without {part}its false-refusal direction, layer {self.layer}"
        what = hashlib.sha256(self.direction.numpy().tobytes()).hexdigest()[:16]
        return Side(name, changed, of.loaded, of.revision, of.source, what)


def ablated_bias(subject: Subject) -> SafetyBias:
    """The bias against the model with its whole false-refusal direction ablated.

    Raises:
        PromptError: If there are too few lookalikes.
        ModelError: If the model is not Llama-like.
        NumericalError: If lookalikes and harmless prompts do not differ.
    """
    return _bias(subject, (1.0,), ABLATED)


def partly_ablated_bias(subject: Subject) -> SafetyBias:
    """The same with a share of the direction, chosen with the layer; errors as `ablated_bias`."""
    return _bias(subject, SHARES, PARTLY_ABLATED)


def _bias(subject: Subject, shares: Sequence[float], name: str) -> SafetyBias:
    side = choose_ablation(subject, shares).side(subject.side)
    bias = estimate_bias(
        subject.side,
        side,
        subject.tokenizer,
        subject.settings,
        batch_size=subject.batch_size,
        checkpoints=subject.checkpoints,
        progress=subject.progress,
    )
    return as_stand_in(bias, name)


def choose_ablation(subject: Subject, shares: Sequence[float]) -> Ablation:
    """The layer after which the model itself answers validation prompts best, then the share.

    Best is the largest share of harmless prompts answered times that of harmful ones refused
    (`Odds.balance`).
    """
    if len(subject.fit.get("lookalike", ())) < LEAST:
        raise PromptError(
            "There are too few lookalikes (harmless prompts that sound harmful) to find the"
            " direction of false refusals.",
            f"Label {2 * LEAST} or more as of kind lookalike.",
        )
    with subject.side.open() as model:
        means = {kind: mean_activations(model, rows) for kind, rows in subject.fit.items()}
        asked = {kind: _some(rows) for kind, rows in subject.validation.items()}

        def balance(one: Ablation) -> float:
            with ablated(model, one.direction, one.share):
                return float(subject.odds(model, asked).balance)

        start, *others = shares
        layers = {n: Ablation(n, start, _direction(means, n)) for n in _layers(model)}
        found = {one: balance(one) for one in layers.values()}
        best = max(found, key=found.__getitem__)
        found |= {one: balance(one) for one in (replace(best, share=n) for n in others)}
        return max(found, key=found.__getitem__)


def _some(rows: Sequence[list[int]]) -> Sequence[list[int]]:
    """At most `MOST_READ` of some prompts, from all over."""
    return rows[:: max(1, len(rows) // MOST_READ)][:MOST_READ]


def _layers(model: PreTrainedModel) -> list[int]:
    number = int(model.config.get_text_config().num_hidden_layers)
    return sorted({max(1, min(number - 1, round(depth * number))) for depth in DEPTHS})


def _direction(means: Mapping[str, Tensor], layer: int) -> Tensor:
    harmful, harmless, lookalike = (
        means[kind][layer] for kind in ("harmful", "harmless", "lookalike")
    )
    refusal = refusal_direction(harmful, harmless)
    return false_refusal_direction(lookalike, harmless, refusal)
