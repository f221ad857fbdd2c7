"""A model without a reference, labelled prompts, and what it makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.bias import Estimation
from tsdi.bias.accumulate import Progress
from tsdi.bias.examination import check_lengths
from tsdi.bias.read_prompts import PromptReader
from tsdi.bias.refusal_log_odds import ENGLISH, Phrases, phrase_ids
from tsdi.decoding.slope import Bias
from tsdi.errors import PromptError
from tsdi.models.sides import Side

ByKind = Mapping[str, Sequence[list[int]]]
"""Prompts as token ids, template included, by kind: "harmless", "lookalike", "harmful"."""
HARMLESS = ("harmless", "lookalike")
LEAST = 8
"""Prompts of a kind, in each half."""
MOST_REMOVED, STRIDE = 20.0, 0.05  # nats


@dataclass(frozen=True)
class Odds:
    """Refusal log-odds after labelled prompts, in nats, with one column for each bias.

    Attributes:
        harmless: Of harmless prompts, lookalikes among them, float64 [prompts, biases].
        harmful: Of harmful ones, float64 [prompts, biases].
    """

    harmless: Tensor
    harmful: Tensor

    @property
    def balance(self) -> Tensor:
        """Share of harmless prompts answered times that of harmful ones refused, [biases].

        An answer's beginning counts as a refusal with the probability that the log-odds say.
        """
        answered, refused = (-self.harmless).sigmoid(), self.harmful.sigmoid()
        return answered.mean(0) * refused.mean(0)

    @property
    def wanted(self) -> float:
        """The log-odds to take from every prompt for the best balance, of the first column.

        0 where nothing is gained. Whatever vector does it, one strength for all prompts is this
        threshold.
        """
        taken = torch.arange(0, MOST_REMOVED, STRIDE, dtype=torch.float64)
        moved = Odds(self.harmless[:, :1] - taken, self.harmful[:, :1] - taken)
        return float(taken[moved.balance.argmax()])


@dataclass(frozen=True)
class Subject:
    """A model without a reference, with labelled prompts in two halves.

    Attributes:
        side: The model.
        tokenizer: Its tokenizer.
        fit: Prompts that estimates are made from.
        validation: Other prompts, on which layers and scales are chosen.
        settings: Settings of estimates on random prompts.
        phrases: Beginnings of refusing and complying answers.
        batch_size: Prompts read together; halved where memory runs out.
        checkpoints: Folder for partial results of estimates.
        progress: Called with the number of random prompts that have just been read.

    Raises:
        PromptError: If there are too few harmful or harmless prompts in a half.
    """

    side: Side
    tokenizer: PreTrainedTokenizerBase
    fit: ByKind
    validation: ByKind
    settings: Estimation = Estimation()
    phrases: Phrases = ENGLISH
    batch_size: int = 32
    checkpoints: Path | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        for half in (self.fit, self.validation):
            harmful, harmless = len(half.get("harmful", ())), len(harmless_of(half))
            if min(harmful, harmless) < LEAST:
                raise PromptError(
                    f"A half of the labelled prompts has {harmful} harmful and {harmless} harmless"
                    " ones.",
                    f"{LEAST} of each are needed there; about a hundred of each kind do in all.",
                )

    def odds(
        self, model: PreTrainedModel, prompts: ByKind, biases: Sequence[Bias | None] = (None,)
    ) -> Odds:
        """Refusal log-odds of a model, such as this one changed, with each bias subtracted.

        Raises:
            PromptError: If a prompt does not fit the context.
        """
        found = self.odds_by_kind(model, prompts, biases)
        return Odds(
            torch.cat([found[kind] for kind in HARMLESS if kind in found]), found["harmful"]
        )

    def odds_by_kind(
        self, model: PreTrainedModel, prompts: ByKind, biases: Sequence[Bias | None]
    ) -> dict[str, Tensor]:
        """The same by kind, float64 [prompts, biases] each."""
        rows = [row for kind in prompts.values() for row in kind]
        reader = self._reader
        check_lengths(model, [("labelled", row) for row in rows], reader.longest)
        order = sorted(range(len(rows)), key=lambda n: len(rows[n]))  # alike lengths pad little
        batched = reader.can_batch(model, rows)
        nothing_asked = [[0]] * len(rows)  # beyond the first token's logits
        found = torch.empty(len(rows), len(biases), dtype=torch.float64)
        reads = reader.read(model, [rows[n] for n in order], nothing_asked, biases, batched)
        for n, read in zip(order, reads, strict=True):
            found[n] = torch.tensor(read.odds, dtype=torch.float64)
        return dict(zip(prompts, found.split([*map(len, prompts.values())]), strict=True))

    @property
    def _reader(self) -> PromptReader:
        known = self.phrases.refusing, self.phrases.complying
        refusing, complying = (phrase_ids(self.tokenizer, texts) for texts in known)
        return PromptReader(self.tokenizer, refusing, complying, 1, self.batch_size)


def harmless_of(prompts: ByKind) -> list[list[int]]:
    """The harmless prompts, lookalikes last."""
    return [row for kind in HARMLESS for row in prompts.get(kind, ())]
