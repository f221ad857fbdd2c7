"""The real prompts of a diagnosis, read as token ids and as labels."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tsdi.arguments import Name, as_list
from tsdi.bias import Estimation, Examination, SafetyBias, TokenPool
from tsdi.bias.openers import Openers, foreign_openers
from tsdi.bias.refusal_log_odds import ENGLISH, Phrases, check_phrases, read_phrases
from tsdi.condition import Labelled
from tsdi.condition.case import find_case
from tsdi.decoding.anchor import anchor_ids
from tsdi.errors import ModelError, PromptError
from tsdi.judging.base import KINDS
from tsdi.models.chat import encode_chat
from tsdi.models.sides import Side
from tsdi.stats.interval import as_json
from tsdi.suites.load import load_prompts
from tsdi.suites.prompts import Prompt, check_kinds
from tsdi.suites.split import distinct

Ids = dict[str, list[list[int]]]
"""Prompts as token ids, by kind and category."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiagnosisPrompts:
    """Real prompts on which a bias is diagnosed, beside random ones.

    Attributes:
        sources: Prompts with kinds, each as for `tsdi.generate`; lookalikes count as harmless.
        phrases: A JSON file that says how refusing and complying answers begin; None is English, or
            what the model's own answers to harmful and harmless prompts show.
    """

    sources: Sequence[Name] = ()
    phrases: str | Path | None = None


@dataclass(frozen=True)
class RealPrompts:
    """Real prompts of a diagnosis, with the phrases that answers begin with.

    Attributes:
        ids: As the aligned model reads them.
        reference: As the reference reads them.
        labelled: With labels, for the case (`tsdi.condition.case`).
        phrases: Beginnings of refusing and complying answers; None if nobody has said.
        openers: Those that the aligned model shows itself, if they are taken for phrases.
    """

    ids: Ids = field(default_factory=dict)
    reference: Ids = field(default_factory=dict)
    labelled: list[Labelled] = field(default_factory=list)
    phrases: Phrases | None = None
    openers: Openers | None = None

    def examination(self, pool: TokenPool) -> Examination:
        """The settings of a diagnosis on these prompts."""
        phrases = self.phrases or ENGLISH
        return Examination(pool, self.ids, phrases=phrases, reference_prompts=self.reference)

    def of_kind(self, kind: str) -> list[list[int]]:
        """The prompts of a kind as token ids, of all categories."""
        return [
            ids for name, rows in self.ids.items() if name.split("/")[0] == kind for ids in rows
        ]


def read_real(
    asked: DiagnosisPrompts | None, tokenizer: PreTrainedTokenizerBase, settings: Estimation
) -> RealPrompts:
    """Read the real prompts of a diagnosis; faults in them are errors before the long work."""
    if asked is None:
        return RealPrompts()
    marker = anchor_ids(tokenizer, settings.anchor)
    found = RealPrompts(
        phrases=None if asked.phrases is None else read_phrases(Path(asked.phrases))
    )
    sources = as_list("sources", asked.sources)
    for prompt in distinct([one for name in sources for one in _with_kinds(name, settings.seed)]):
        kind = "harmful" if prompt.kind == "harmful" else "harmless"
        name = f"{kind}/{prompt.category}" if prompt.category else kind
        ids, theirs = (
            encode_chat(tokenizer, prompt.messages, chat)
            for chat in (settings.chat, settings.reference_chat)
        )
        found.ids.setdefault(name, []).append(ids + marker)
        found.reference.setdefault(name, []).append(theirs + marker)
        label = Labelled(ids, kind == "harmful", prompt.category, prompt.group)
        found.labelled.append(label)
    if found.phrases or not all(map(found.of_kind, ("harmless", "harmful"))):
        check_phrases(tokenizer, found.phrases or ENGLISH)
    return found


def with_openers(
    real: RealPrompts, aligned: Side, tokenizer: PreTrainedTokenizerBase
) -> RealPrompts:
    """The prompts with the openers of the aligned model, where it does not refuse in English.

    Phrases that the user has given stay, and nothing is found out without prompts of both kinds.

    Raises:
        UsageError: If English phrases are left, and the tokenizer knows none of them.
    """
    if real.phrases or not real.of_kind("harmful") or not real.of_kind("harmless"):
        return real
    with aligned.open() as model:
        kinds = real.of_kind("harmful"), real.of_kind("harmless")
        own = foreign_openers(model, tokenizer, *kinds)
    return real if own is None else replace(real, phrases=own.phrases, openers=own)


def with_case(
    bias: SafetyBias,
    aligned: Side,
    tokenizer: PreTrainedTokenizerBase,
    real: RealPrompts,
    batch_size: int,
) -> SafetyBias:
    """The bias with its case where there are prompts of both kinds, and with own openers."""
    strength = bias.info.strength
    if real.openers is not None and strength is not None:
        shown = {**bias.info.diagnosis, "openers": as_json(real.openers)}
        bias = bias.with_diagnosis(strength, shown)
    if len({one.harmful for one in real.labelled}) < 2 or bias.info.anchor or strength is None:
        return bias
    try:
        with aligned.open() as model:
            case = find_case(
                bias,
                model,
                tokenizer,
                real.labelled,
                real.phrases or ENGLISH,
                batch_size=batch_size,
            )
    except (PromptError, ModelError) as error:  # which costs nobody the estimate
        _LOG.info("Whether a condition is worth it is not found out: %s", error.problem)
        return bias
    return bias.with_diagnosis(strength, {**bias.info.diagnosis, "case": as_json(case)})


def _with_kinds(source: Name, seed: int) -> list[Prompt]:
    """The prompts of a file or suite, each with a kind."""
    prompts = load_prompts(source, seed).prompts
    check_kinds(prompts)
    counts = Counter(prompt.kind for prompt in prompts)
    shown = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    _LOG.info("--prompts %s: %s.", source, shown)
    return prompts
