"""Tables that stand among prose, each cell of it taken by row and column from a study's tables."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from experiments import DOCS, HERE
from experiments.marks import table

Cells = Mapping[str, Mapping[str, Mapping[str, str]]]
"""The cells of a study's tables, by title, by what its first column says, by column."""

FRONTS = {
    "plain": "plain grid",
    "plain or reference": "plain grid, and the reference as a choice",
    "tsdi": "TSDI, strength 1",
    "tsdi-tuned": "tuned TSDI",
    "random-shift": "random shift of the same size (control)",
    "static": "TSDI's mean over steps",
    "openers": "tuned constant on the aligned model's refusing openers",
    "reference-openers": "tuned constant on the reference's",
    "merge": "weight merge (P-SACPO)",
    "dera": "DeRa",
    "proxy": "proxy-tuning",
    "safe-decoding": "SafeDecoding",
    "refusal-direction": "ablated refusal direction",
    "false-refusal-direction": "ablated false-refusal direction",
}
CLEANSED = {
    "no-noise": ("0", "-"),
    "noise0.1-kept": (".1", "no"),
    "noise0.1-cleansed": (".1", "ground truth"),
    "noise0.3-kept": (".3", "no"),
    "noise0.3-below0.25": (".3", "judge, below .25"),
    "noise0.3-below0.5": (".3", "judge, below .5"),
    "noise0.3-below0.75": (".3", "judge, below .75"),
    "noise0.3-cleansed": (".3", "ground truth"),
}
DOSES = {
    f"annotators{dose}-beta0.05-step200": dose.lstrip("0") or "0" for dose in ("0", "0.3", "0.5")
}
GRID = "Models of the grid, plain and debiased"
CONDITIONED = "conditioned TSDI minus it"
REAL_TEXT = {
    "plain": "no debiasing",
    "tsdi": "TSDI, strength 1",
    "tsdi-tuned": "TSDI, tuned",
    "random-shift": "random shift (control)",
    "static": "TSDI's mean over steps",
    "openers": "one tuned number on refusing words",
    "reference-openers": "one tuned number on the reference's",
    "merge": "merged weights",
    "dera": "DeRa",
    "refusal-direction": "refusal direction ablated",
    "adacd": "AdaCD",
    "self-reminder": "self-reminder (a prompt)",
    "conditioned": "**TSDI with a condition**",
    "conditioned-shuffled": "shuffled labels (control)",
    "conditioned-log-odds": "condition, log-odds alone",
    "conditioned-top-20": "condition of the 20 likeliest tokens",
    "conditioned-openers": "one number, with a condition",
    "first-order": "first order",
    "conditioned-first-order": "first order with a condition",
    "reference-refuser": "reference that a condition makes refuse",
    "merge-refuser": "merge that a condition makes refuse",
    "sft": "the model before the helpfulness step",
    "reference": "the reference",
}
REFERENCE = {"reference": "the reference, no safety step"}


def main_model(cells: Cells) -> str:
    """Rules at the main model of the organism study, and over its grid."""
    main = cells["Methods at the main grid point"]
    weakest = cells["Weakest category of every method"]
    stays = cells["Most helpful answers where safety stays"]
    alone = cells["Every point of the grid alone: safety times helpful answers"]
    head = [
        "", "safety", "weakest category", "right answers", "right answers where safety stays",
        "safety times right answers, any model",
    ]  # fmt: skip
    rows = [
        [
            title.replace("plain grid", "no debiasing"),
            main[rule]["safety"],
            re.sub(r"(?<=O\d) .*? (?=\d)", " ", weakest[rule]["plain prompts"]),
            main[rule]["helpful"],
            stays[rule]["helpful"],
            alone.get(rule, {}).get("mean over the grid", ""),
        ]
        for rule, title in {**FRONTS, **REFERENCE}.items()
        if rule in main
    ]
    return table([head, *rows])


def fronts(cells: Cells) -> str:
    """Fronts of three points of the organism study."""
    columns = {
        "hypervolume": "hypervolume",
        "TSDI minus it": "TSDI, strength 1, minus it",
        "tuned TSDI minus it": "tuned TSDI minus it",
    }
    found = cells["Fronts of 3 points: safety and helpful"]
    rows = [[title, *(found[rule][one] for one in columns)] for rule, title in FRONTS.items()]
    return table([["", *columns.values()], *rows])


def cleansed(cells: Cells) -> str:
    """Models trained on pairs with errors, on all of them and on cleansed ones."""
    columns = {
        "safety, plain": "safety, plain",
        "helpful, plain": "right answers, plain",
        "safety, TSDI": "safety, debiased",
        "helpful, TSDI": "right answers, debiased",
    }
    rows = [
        [*titles, *(cells[GRID][model][one] for one in columns)]
        for model, titles in CLEANSED.items()
    ]
    return table([["annotators' errors", "cleansing", *columns.values()], *rows])


def doses(cells: Cells) -> str:
    """Models of annotators of whom some prefer refusals."""
    head = [
        "annotators who prefer refusals", "refusal log-odds, random prompts",
        "right answers, aligned", "right answers, debiased", "safety, debiased minus aligned",
    ]  # fmt: skip
    rows = [
        [
            dose,
            cells["Refusal log-odds by kind of prompt"][model]["shift, random"],
            cells[GRID][model]["helpful, plain"],
            cells[GRID][model]["helpful, TSDI"],
            cells["What debiasing gives back"][model]["safety: debiased minus aligned"],
        ]
        for model, dose in DOSES.items()
    ]
    return table([head, *rows])


def real_text(cells: Cells) -> str:
    """Rules of the study on real text: the main model, fronts, and what a model nobody chose."""
    main = cells["Methods at the main grid point"]
    head = ["", "refused, harmful", "complied, harmless", "complied, lookalike"]
    columns = ("Fronts of 3 points: refusals and helpful",
               "Every point of the grid alone: refusals times helpful answers")  # fmt: skip
    rows = [
        [
            title,
            *(main[rule][one] for one in head[1:]),
            *(cells[one].get(rule, {}).get(CONDITIONED, "") for one in columns),
        ]
        for rule, title in REAL_TEXT.items()
    ]
    return table([[*head, "three models", "any model"], *rows])


PARTS: Sequence[tuple[Path, str, str, Callable[[Cells], str]]] = (
    (DOCS / "reproduction.md", "rules", "organism", main_model),
    (DOCS / "reproduction.md", "fronts", "organism", fronts),
    (DOCS / "reproduction.md", "cleansed", "cleansing", cleansed),
    (HERE / "organism-dose" / "README.md", "doses", "organism-dose", doses),
    (HERE / "real-text" / "README.md", "rules", "real-text", real_text),
)
"""By page, the name of its marks, the study, and the function that makes the part."""


def cells_of(page: str) -> dict[str, dict[str, dict[str, str]]]:
    """The cells of a page of tables."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for title, body in re.findall(r"^### (.*?)\n(.*?)(?=^### |\Z)", page, re.M | re.S):
        lines = [line[2:-2].split(" | ") for line in body.splitlines() if line.startswith("| ")]
        head, _, *rows = lines
        found[title] = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    return found
