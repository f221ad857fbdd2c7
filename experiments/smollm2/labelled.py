"""What labels by reading say of the study's answers: `labels/README.md` has the protocol.

The word rule's verdicts on all answers are those of `results.json`; the labels are of some.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

from experiments import HERE
from experiments.marks import table, with_parts
from experiments.smollm2_tables import KINDS, RESULTS

from tsdi.audit.confusion import Seen, measure
from tsdi.runs.records import Record, read_records
from tsdi.stats.clusters import clustered_kappa, clustered_share
from tsdi.stats.interval import Estimate, compact_text
from tsdi.stats.prediction_powered import Item, powered_change, powered_share
from tsdi.stats.proportions import paired_change
from tsdi.study.answers import Answers
from tsdi.study.results import read_results

FILE = HERE / "smollm2" / "labels" / "labels.jsonl"
PAGE = HERE / "smollm2" / "README.md"
RULES = {
    "plain": "no debiasing",
    "tsdi-tuned": "TSDI, tuned",
    "conditioned": "TSDI with a condition",
}
PAIR = ("tsdi-tuned", "conditioned")
HARMFUL, HARMLESS = (kinds for kinds, _ in KINDS)
REFUSALS = ("refused", "partial")
HARMS = ("none", "empty", "usable")
"""What an answer to a harmful prompt that does not refuse holds."""


def _refuses(label: Record) -> bool:
    return label["label"] in REFUSALS


class Share(NamedTuple):
    """A share of the answers to some kinds of prompts: letter and label that count."""

    kinds: tuple[str, ...]
    letter: str
    hit: Callable[[Record], bool]


SHARES = {
    "refused, harmful": Share(HARMFUL, "R", _refuses),
    "complied, harmless": Share(HARMLESS, "C", lambda label: label["label"] == "complied"),
    "goes along, harmful": Share(HARMFUL, "C", lambda label: label.get("harm") in HARMS[1:]),
    "usable harm, harmful": Share(HARMFUL, "C", lambda label: label.get("harm") == "usable"),
    "usable harm, 128 tokens": Share(HARMFUL, "C", lambda x: x.get("long_harm") == "usable"),
}
SEEN = ("refused, harmful", "complied, harmless")
"""What the word rule sees."""


class Answer(NamedTuple):
    """An answer of the study: the word rule's letter, and the label if it has one."""

    kind: str
    prompt: str
    letter: str
    label: Record | None


def answers_of(rule: str) -> list[Answer]:
    """All test answers of a rule with the settings that were chosen, of all seeds."""
    study = Answers(read_results(RESULTS))
    labels = {label["id"]: label for label in read_records(FILE) if label["rule"] == rule}
    found = []
    for seed in study.test_seeds:
        (cell,) = study.test_cells(rule, seed, study.results.main)
        asked = study.results.prompts["test"]
        for one, letter in zip(asked, cell.outcomes, strict=True):
            label = labels.get(f"{rule}/seed{seed}/{one.id}")
            found.append(Answer(one.kind, one.id, letter, label))
    return found


def with_tables(text: str) -> str:
    """A page with its tables made anew."""
    answers = {rule: answers_of(rule) for rule in RULES}
    return with_parts(
        text,
        {
            "labelled words": table([*_words(answers)]),
            "labelled rules": table([*_rules(answers)]),
            "labelled harm": table([*_harm(answers)]),
            "labelled again": _again(answers),
            "labelled second": table([*_second(answers)]),
        },
    )


def _words(answers: Mapping[str, Sequence[Answer]]) -> Iterator[list[str]]:
    """How often the word rule finds the refusals that a reader finds, by kind of prompt."""
    yield ["prompts", "labels", "refused, labels", "refused, words", "precision", "recall"]
    labelled = [one for found in answers.values() for one in found if one.label]
    for title, kinds in (
        ("harmful", HARMFUL),
        *((kind, (kind,)) for kind in HARMLESS),
        ("all", HARMFUL + HARMLESS),
    ):
        found = measure(
            [
                Seen(_refuses(one.label), one.letter == "R", one.prompt)
                for one in labelled
                if one.label and one.kind in kinds
            ]
        )
        figures = (found.people, found.judge, found.precision, found.recall)
        yield [title, str(found.people.n), *map(compact_text, figures)]


def _rules(answers: Mapping[str, Sequence[Answer]]) -> Iterator[list[str]]:
    """Rates of each rule by the word rule alone and with labels, and what a condition changes."""
    by_words = [f"{name}: {by}" for name in SEEN for by in ("words", "labels")]
    yield ["rule", *by_words, *(name for name in SHARES if name not in SEEN)]
    for rule, title in RULES.items():
        yield [title, *_both(answers[rule])]
    yield ["condition less tuned", *_both(*(answers[rule] for rule in PAIR))]


def _both(*arms: Sequence[Answer]) -> Iterator[str]:
    for name, share in SHARES.items():
        words, labels = estimates(share, *arms)
        for one in (words, labels) if name in SEEN else (labels,):
            yield compact_text(one, signed=len(arms) == 2)


def estimates(share: Share, *arms: Sequence[Answer]) -> tuple[Estimate, Estimate]:
    """A share of one rule, or its change from one to another: by words, and with labels."""
    pairs = [pair for pair in zip(*arms, strict=True) if pair[0].kind in share.kinds]
    items = [_item(share, pair) for pair in pairs]
    said = [[pair[arm].letter == share.letter for pair in pairs] for arm in range(len(arms))]
    if len(arms) == 2:
        return paired_change(said[0], said[1]), powered_change(items)
    words = clustered_share(said[0], [pair[0].prompt for pair in pairs])
    return words, powered_share(items)


def _item(share: Share, pair: Sequence[Answer]) -> Item:
    """An answer, or two to one prompt, for the estimate with labels."""
    guesses = [float(one.letter == share.letter) for one in pair]
    truths = [float(share.hit(one.label)) for one in pair if one.label]
    return Item(
        word=tuple(one.letter for one in pair),
        guess=guesses[-1] - sum(guesses[:-1]),
        truth=truths[-1] - sum(truths[:-1]) if len(truths) == len(pair) else None,
        weight=pair[0].label["weight"] if pair[0].label else 1.0,
    )


def _harm(answers: Mapping[str, Sequence[Answer]]) -> Iterator[list[str]]:
    """What the labelled answers hold that do not refuse harmful prompts, and hold when longer."""
    yield ["rule", "not refused", *HARMS, *(f"{harm}, 128 tokens" for harm in HARMS)]
    every = [one for found in answers.values() for one in found]
    for title, some in (*((RULES[rule], answers[rule]) for rule in answers), ("all", every)):
        said = [(one.label, one.prompt) for one in some if one.label and "harm" in one.label]
        prompts = [prompt for _, prompt in said]
        shares = (
            clustered_share([label[key] == harm for label, _ in said], prompts)
            for key in ("harm", "long_harm")
            for harm in HARMS
        )
        yield [title, str(len(said)), *map(compact_text, shares)]


def _again(answers: Mapping[str, Sequence[Answer]]) -> str:
    """A sentence on the second pass; rules may share a text."""
    labels = [one.label for found in answers.values() for one in found if one.label]
    pairs = {
        label["answer_sha256"]: (_said(label, ""), _said(label, "again_"))
        for label in labels
        if "again_label" in label
    }
    alike = sum(first == again for first, again in pairs.values())
    return f"In the second pass {alike} of {len(pairs)} texts got the same labels.\n"


def _second(answers: Mapping[str, Sequence[Answer]]) -> Iterator[list[str]]:
    """How far a second reader agrees, text by text; rules may share a text."""
    texts = {
        (one.prompt, one.label["answer_sha256"]): one
        for found in answers.values()
        for one in found
        if one.label
    }
    both = [[_said(one.label, begin) for one in texts.values()] for begin in ("", "second_")]
    yield ["what", "texts", "first reader", "second reader", "alike", "kappa"]
    exact = [[(said["label"], said["harm"]) for said in labels] for labels in both]
    prompts = [one.prompt for one in texts.values()]
    yield ["label, and harm", str(len(prompts)), "", "", *agreement(exact[0], exact[1], prompts)]
    for name in (*SEEN, "goes along, harmful", "usable harm, harmful"):
        share = SHARES[name]
        these = [place for place, one in enumerate(texts.values()) if one.kind in share.kinds]
        first, second = ([share.hit(labels[place]) for place in these] for labels in both)
        counts = map(str, (len(these), sum(first), sum(second)))
        yield [name, *counts, *agreement(first, second, [prompts[place] for place in these])]


def agreement(
    first: Sequence[Hashable], second: Sequence[Hashable], prompts: Sequence[str]
) -> Iterator[str]:
    """The share of texts that two readers label alike, and kappa."""
    alike = [one == other for one, other in zip(first, second, strict=True)]
    yield compact_text(clustered_share(alike, prompts))
    yield compact_text(clustered_kappa(first, second, prompts))


def _said(label: Record | None, begin: str) -> Record:
    """What one of the readers says of an answer: label, and harm if it has one."""
    return {key: (label or {}).get(begin + key) for key in ("label", "harm")}
