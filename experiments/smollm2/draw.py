"""Draws answers of the study for labels, and keeps the labels without the answers.

`python -m experiments.smollm2.draw --study smollm2-study --out labelling` makes one judged run of
each rule out of its test cells of all seeds, lets `tsdi label` draw among its answers, and writes
what was drawn of all rules to `sheet.jsonl`, mixed: a number, the prompt, the answer, and whether
the prompt is harmful. Whoever labels adds `labels.jsonl`, a line for each number: `label`, and on
harmful prompts that are not refused `harm`, as `labels/README.md` says; `again.jsonl`, second
labels of some; `long.jsonl`, labels of what `experiments.smollm2.longer` makes of those with
`harm`; and `second.jsonl`, a second reader's of all. The same command with `--keep` gives the first
to `tsdi label`, whose files are then in the runs, and writes all without prompts and answers to
`labels/labels.jsonl`.
"""

import argparse
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from experiments.smollm2.labelled import FILE, RULES
from experiments.smollm2_tables import RESULTS

import tsdi
from tsdi.evaluation.label import Question, Step
from tsdi.evaluation.verdicts import read_judged
from tsdi.judging.verdict import Verdict
from tsdi.runs.records import Record, read_records, write_records
from tsdi.study.answers import Answers
from tsdi.study.cells import CELLS
from tsdi.study.entries import AnsweredCell
from tsdi.study.outcomes import outcomes
from tsdi.study.results import read_results

N, SEED = 150, 0
JUDGES = ("refusal-phrases", "xstest-strings", "keyword-list", "gcg-keywords")
"""Rules of words that judge the runs; by the first one's verdicts is drawn."""
DRAWS = (("plain",), ("tsdi-tuned", "conditioned"))
"""Rules whose answers to the same prompts are drawn."""
SHEET, SAID = "sheet.jsonl", "labels.jsonl"
LATER = {"again": "again.jsonl", "long": "long.jsonl", "second": "second.jsonl"}
"""Files of further labels, by what their keys begin with."""
HARM = {"none": Verdict.SAFE, "empty": Verdict.EMPTY, "usable": Verdict.UNSAFE}
"""Labels of `tsdi label` of answers to harmful prompts that do not refuse."""
Text = tuple[str, str]
"""A prompt and its answer."""


def make_runs(study: Path, out: Path) -> None:
    """Write a judged run of each rule: its answers of all seeds with the settings chosen."""
    answers = Answers(read_results(RESULTS))
    for rule in RULES:
        records = []
        for seed in answers.test_seeds:
            (wanted,) = answers.test_cells(rule, seed, answers.results.main)
            found = (study / CELLS / f"seed{seed}").glob(f"*/{rule}_*test_*")
            cell = next(one for one in found if _is(one, wanted))
            for record in read_records(cell / "responses.jsonl"):
                records.append(record | {"id": f"seed{seed}/{record['id']}"})
        (out / rule).mkdir(parents=True)
        write_records(out / rule / "responses.jsonl", records)
        for judge in JUDGES:
            tsdi.evaluate(str(out / rule), judging=tsdi.Judging(judge))


def _is(cell: Path, wanted: AnsweredCell) -> bool:
    """Whether a folder is the cell of the committed results."""
    named = all(f"_{key}={value}_" in cell.name for key, value in wanted.setting.items())
    return named and outcomes(read_judged(cell).judged) == wanted.outcomes


def write_sheet(out: Path) -> None:
    """Write what is drawn of all rules in random order; like answers to a prompt once."""
    drawn: dict[Text, Record] = {}

    def see(question: Question) -> Verdict | Step:
        prompt = question.messages[-1]["content"]
        harmful = Verdict.UNSAFE in question.choices
        drawn[prompt, question.answer] = {
            "harmful": harmful,
            "prompt": prompt,
            "answer": question.answer,
        }
        return question.choices[0]

    for rules in DRAWS:
        runs = [out / rule for rule in rules]
        tsdi.label(runs, see, N, labeller="nobody", judge=JUDGES[0], seed=SEED)
    order = np.random.default_rng(SEED).permutation(len(drawn)).tolist()
    records = [*drawn.values()]
    write_records(out / SHEET, [{"id": str(i), **records[place]} for i, place in enumerate(order)])


def keep(out: Path) -> None:
    """Give the labels to `tsdi label`, and keep them without the texts."""
    sheet = {record["id"]: record for record in read_records(out / SHEET)}

    def read(name: str) -> dict[Text, Record]:
        return {text_of(sheet[record["id"]]): record for record in read_records(out / name)}

    first, later = read(SAID), {begin: read(name) for begin, name in LATER.items()}
    kept = []
    for rules in DRAWS:
        tsdi.label([out / rule for rule in rules], _ask(first), N, judge=JUDGES[0], seed=SEED)
    for rule in RULES:
        verdicts = {judge: _verdicts(out / rule, judge) for judge in JUDGES}
        for record in read_records(out / rule / "labels.jsonl"):
            text = text_of(record)
            kept.append(_kept(rule, record, verdicts) | _said(first[text]))
            for begin, labels in later.items():
                more = _said(labels.get(text, {}))
                kept[-1] |= {f"{begin}_{key}": value for key, value in more.items()}
    write_records(FILE, kept)


def text_of(record: Record) -> Text:
    return record["prompt"], record["answer"]


def _ask(said: dict[Text, Record]) -> Callable[[Question], Verdict]:
    """Answers the questions of `tsdi label` by the labels of the sheet."""

    def ask(question: Question) -> Verdict:
        record = said[question.messages[-1]["content"], question.answer]
        label = Verdict(record["label"].upper())
        if Verdict.UNSAFE not in question.choices or label is Verdict.REFUSED:
            return label
        return HARM[record["harm"]]

    return ask


def _verdicts(run: Path, judge: str) -> dict[str, str]:
    """A judge's verdicts on a run, by id."""
    judged = read_judged(run, judge).judged
    return {one.id: one.judgement.verdict.value.lower() for one in judged}


def _kept(rule: str, record: Record, verdicts: Mapping[str, Mapping[str, str]]) -> Record:
    """What is kept of an answer: which one it is, and what the rules of words say of it."""
    first, *others = JUDGES
    return {
        "id": f"{rule}/{record['id']}",
        "rule": rule,
        "kind": record["kind"],
        "answer_sha256": hashlib.sha256(record["answer"].encode()).hexdigest()[:16],
        "weight": record["weight"],
        "verdict": verdicts[first][record["id"]],
        "others": {judge: verdicts[judge][record["id"]] for judge in others},
    }


def _said(record: Record) -> Record:
    return {key: record[key] for key in ("label", "harm") if key in record}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True, help="folder of the study's cells")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", action="store_true", help="keep the labels that are there now")
    given = parser.parse_args()
    if given.keep:
        keep(given.out)
    else:
        make_runs(given.study, given.out)
        write_sheet(given.out)


if __name__ == "__main__":
    main()
