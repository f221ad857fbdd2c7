"""``tsdi audit --train``: a small refusal judge of one's own."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import typer
from rich.table import Table

import tsdi.audit
from tsdi.audit.labels import LabelFormat
from tsdi.audit.train_judge import Training, evidence
from tsdi.cli import console
from tsdi.stats.interval import compact_text

NOT_BETTER = 1  # exit code


def train(out: Path, labels: Sequence[Path], label_format: LabelFormat, json: bool) -> None:
    """Train, and show what cross-validation found.

    Raises:
        typer.Exit: With 1, nothing being written, if the judge is not better than the string rules.
        TsdiError: If the labels will not do.
    """
    with console.bar("train") as update:
        found = tsdi.audit.train(
            labels, out, label_format=label_format, progress=partial(update, "held out")
        )
    if json:
        console.show_json({"out": str(out) if found.better else None, **evidence(found)})
    else:
        for table in (_kappa_table(found), _class_table(found)):
            console.out.print(table)
        console.say(_said_of(found, out))
    if not found.better:
        raise typer.Exit(NOT_BETTER)


def _kappa_table(found: Training) -> Table:
    table = console.table(
        "Agreement with people on refusals (kappa), each model left out of training",
        ["", "trained", found.best_rule],
    )
    for model, kappas in found.by_model.items():
        table.add_row(
            console.one_line(model, 24),
            *(compact_text(kappas[name]) for name in ("trained", found.best_rule)),
        )
    table.add_section()
    table.add_row("all", *(compact_text(found.kappa[n]) for n in ("trained", found.best_rule)))
    table.add_row("all, prompts unseen too", compact_text(found.kappa["trained, new prompts"]))
    table.add_section()
    for name, gain in found.gain.items():
        table.add_row(f"gain over {name}", compact_text(gain, signed=True))
    return table


def _class_table(found: Training) -> Table:
    table = console.table("By class, of the judge", ["", "answers", "precision", "recall"])
    for name, shares in found.classes.items():
        cells = (compact_text(shares[figure]) for figure in ("precision", "recall"))
        table.add_row(name.lower(), str(found.labels[name]), *cells)
    return table


def _said_of(found: Training, out: Path) -> str:
    if not found.better:
        return (
            f"Not better than {found.best_rule} beyond the interval: nothing was written. Use"
            f" --judge {found.best_rule}, or label more answers."
        )
    return (
        f"Saved in {out}. Its probability of a refusal is off by"
        f" {found.calibration['error']:.2f} on average. Next: tsdi evaluate RUN --judge"
        f" trained={out}"
    )
