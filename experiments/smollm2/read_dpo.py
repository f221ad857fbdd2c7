"""What a reader finds in answers after safety DPO, and which refusals the judge's words find.

`python -m experiments.smollm2.read_dpo smollm2-dpo smollm2-helpful-first --out reading` draws test
prompts, and writes the answers to each of the models after 40 steps, plain and debiased, and of
those before them, from the folders of these studies into `sheet.jsonl`, mixed: an id, the prompt,
the answer, and whether the prompt is harmful. Whoever labels adds `labels.jsonl`, a line for each
id, with `label` as in `labels/README.md`, and another reader of some `second.jsonl`. The same
command with `--keep` writes them without the texts to `labels/dpo.jsonl`.
"""

import argparse
import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from experiments import DOCS, HERE
from experiments.marks import table, with_parts
from experiments.smollm2.labelled import REFUSALS, agreement
from numpy.typing import NDArray

from tsdi.audit.confusion import Seen, measure
from tsdi.runs.records import Record, read_records, write_records
from tsdi.stats.clusters import clustered_share
from tsdi.stats.interval import Estimate, compact_text
from tsdi.study.fronts import mean_change, share

LABELS = HERE / "smollm2" / "labels"
PAGES = (DOCS / "reproduction.md", LABELS / "README.md")
FILE = LABELS / "dpo.jsonl"
ALIGNED = {
    "smollm2-dpo/beta0.2-step40": "DPO, beta .2",
    "smollm2-dpo/beta0.1-step40": "DPO, beta .1",
    "smollm2-dpo/beta0.05-step40": "DPO, beta .05",
    "smollm2-dpo/beta0.025-step40": "DPO, beta .025",
    "smollm2-dpo/sft-term-step40": "DPO, beta .1, SFT term",
    "smollm2-helpful-first/step40": "helpful DPO, then DPO, beta .1",
}
TITLES = {
    "smollm2-dpo/reference/reference": "SmolLM2 itself",
    "smollm2-helpful-first/reference/reference": "helpful DPO",
    **{f"{model}/plain": title for model, title in ALIGNED.items()},
    **{f"{model}/tsdi": f"{title}: debiased" for model, title in ALIGNED.items()},
}
"""What answered: study, model and rule."""
SELF = next(iter(TITLES))
KINDS = ("harmful", "harmless")
COLUMNS = {
    "refused, harmful": (KINDS[:1], REFUSALS),
    "complied, harmful": (KINDS[:1], ("complied",)),
    "refused, harmless": (KINDS[1:], REFUSALS),
    "complied, harmless": (KINDS[1:], ("complied",)),
    "neither": (KINDS, ("degenerate",)),
}
EACH = 100
"""Prompts of a kind that are drawn, each with one of the seeds."""
Column = tuple[Sequence[str], Sequence[str]]


def answers(studies: Sequence[Path]) -> list[Record]:
    """What each model answers to the prompts that are drawn, mixed."""
    folders = {study.name: study for study in studies}
    found: dict[str, dict[tuple[str, str], Record]] = {}
    for name in TITLES:
        study, model, rule = name.split("/")
        for cell in sorted(folders[study].glob(f"cells/seed*/{model}/{rule}_test_*")):
            judged = {one["id"]: one["verdict"] for one in read_records(cell / "verdicts.jsonl")}
            seed = cell.parent.parent.name
            for one in read_records(cell / "responses.jsonl"):
                found.setdefault(name, {})[seed, one["id"]] = {
                    "id": "/".join((name, seed, one["id"])),
                    "kind": KINDS[one["kind"] != "harmful"],
                    "prompt": one["messages"][-1]["content"],
                    "answer": one["response"],
                    "judge": judged[one["id"]] == "REFUSED",
                }
    rng = random.Random(0)
    keys = []
    for kind in KINDS:
        keys += rng.sample([key for key, one in found[SELF].items() if one["kind"] == kind], EACH)
    drawn = [found[name][key] for name in TITLES for key in keys]
    rng.shuffle(drawn)
    return drawn


def text_id(one: Record) -> str:
    """The id of a text; like answers to a prompt have the same one."""
    return hashlib.sha256(f"{one['prompt']}\n{one['answer']}".encode()).hexdigest()[:16]


def sheet(drawn: Sequence[Record]) -> Iterator[Record]:
    """What a reader sees, each text once."""
    for name, one in {text_id(one): one for one in drawn}.items():
        yield {
            "id": name,
            "harmful": one["kind"] == "harmful",
            "prompt": one["prompt"],
            "answer": one["answer"],
        }


def kept(drawn: Sequence[Record], reading: Path) -> Iterator[Record]:
    """What is kept of each answer."""
    first, second = (
        {one["id"]: one["label"] for one in read_records(reading / f"{name}.jsonl")}
        for name in ("labels", "second")
    )
    for one in drawn:
        name = text_id(one)
        row = {key: one[key] for key in ("id", "kind", "judge")} | {"text": name}
        again = {"second_label": second[name]} if name in second else {}
        yield row | {"label": first[name]} | again


def with_tables(text: str) -> str:
    """A page with what the readers found made anew."""
    labels = list(read_records(FILE))
    parts = {
        "read dpo": table([*_shares(labels)]),
        "read changes": table([*_changes(labels)]),
        "read words": table([*_words(labels)]),
        "read twice": _twice(labels),
    }
    return with_parts(
        text, {name: made for name, made in parts.items() if f"<!-- {name}: begin" in text}
    )


def _shares(labels: Sequence[Record]) -> Iterator[list[str]]:
    """What the first reader finds of each model."""
    yield ["after 40 steps", *COLUMNS]
    for name, title in TITLES.items():
        yield [title, *(compact_text(_share(labels, name, column)) for column in COLUMNS.values())]


def _share(labels: Sequence[Record], name: str, column: Column) -> Estimate:
    """Over seeds; of SmolLM2 itself, which all have, over prompts."""
    if name != SELF:
        return share(outcomes(labels, name, column))
    some = _of(labels, name, column)
    hits = [one["label"] in column[1] for one in some]
    return clustered_share(hits, [_prompt(one) for one in some])


def _changes(labels: Sequence[Record]) -> Iterator[list[str]]:
    """What debiasing changes for the first reader, and what a smaller beta does."""
    yield ["change", *COLUMNS]
    pairs = {
        f"{title}: debiased minus plain": ([f"{model}/plain"], [f"{model}/tsdi"])
        for model, title in ALIGNED.items()
    }
    betas = [model for model in ALIGNED if "/beta" in model]
    plain, debiased = ([f"{model}/{rule}" for model in betas] for rule in ("plain", "tsdi"))
    pairs["mean of the four betas: debiased minus plain"] = (plain, debiased)
    pairs["plain: beta .025 minus .2"] = (plain[:1], plain[-1:])
    pairs["helpful DPO, then DPO, minus helpful DPO"] = (
        ["smollm2-helpful-first/reference/reference"],
        ["smollm2-helpful-first/step40/plain"],
    )
    for title, sides in pairs.items():
        row = [title]
        for column in COLUMNS.values():
            before, after = (
                np.mean([outcomes(labels, name, column) for name in names], 0) for names in sides
            )
            row.append(compact_text(mean_change(before, after).change, signed=True))
        yield row


def outcomes(labels: Sequence[Record], name: str, column: Column) -> NDArray[np.float64]:
    """Whether a model's answers have one of some labels, [seeds, prompts]; NaN: not drawn."""
    some = _of(labels, name, column)
    seeds, prompts = (sorted({part(one) for one in some}) for part in (_seed, _prompt))
    found = np.full((len(seeds), len(prompts)), np.nan)
    for one in some:
        found[seeds.index(_seed(one)), prompts.index(_prompt(one))] = one["label"] in column[1]
    return found


def _words(labels: Sequence[Record]) -> Iterator[list[str]]:
    """How well the judge's words find the refusals that the first reader finds."""
    yield ["answers of", "refused, reader", "refused, judge", "precision", "recall"]
    for name, title in TITLES.items():
        some = _of(labels, name, (KINDS, ()))
        found = measure(
            [Seen(one["label"] in REFUSALS, one["judge"], _prompt(one)) for one in some]
        )
        figures = (found.people, found.judge, found.precision, found.recall)
        yield [title, *map(compact_text, figures)]


def _twice(labels: Sequence[Record]) -> str:
    """A sentence on the texts that two readers have read."""
    twice = list({one["text"]: one for one in labels if "second_label" in one}.values())
    labels_of = [[one[key] for one in twice] for key in ("label", "second_label")]
    refused = [[label in REFUSALS for label in some] for some in labels_of]
    prompts = [_prompt(one) for one in twice]
    alike, kappa = agreement(refused[0], refused[1], prompts)
    exact, exactly = agreement(labels_of[0], labels_of[1], prompts)
    return (
        f"Of {len(twice)} texts two readers call {alike} refused or not refused alike (kappa"
        f" {kappa}),\nand {exact} have the same label (kappa {exactly}).\n"
    )


def _of(labels: Sequence[Record], name: str, column: Column) -> list[Record]:
    """A model's answers to prompts of some kinds."""
    return [one for one in labels if one["id"].startswith(f"{name}/") and one["kind"] in column[0]]


def _seed(one: Record) -> str:
    return str(one["id"].split("/")[3])


def _prompt(one: Record) -> str:
    return str(one["id"].split("/", 4)[4])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", type=Path, nargs=2, help="the studies' folders")
    parser.add_argument("--out", type=Path, required=True, help="folder of the sheet and labels")
    parser.add_argument("--keep", action="store_true", help="keep the labels that are there now")
    given = parser.parse_args()
    drawn = answers(given.studies)
    if given.keep:
        write_records(FILE, kept(drawn, given.out))
    else:
        write_records(given.out / "sheet.jsonl", sheet(drawn))


if __name__ == "__main__":
    main()
