"""The tables of experiments/judges/README.md, from committed results; measures nothing."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import HERE, MEASURED
from experiments.marks import table, with_parts
from tsdi.audit.confusion import Seen, measure
from tsdi.runs.records import Record, read_records
from tsdi.stats.interval import Estimate, compact_text, interval_text

PAGE = HERE / "judges" / "README.md"
LABELS = HERE / "smollm2" / "labels" / "labels.jsonl"
GPT4 = "column:gpt4_label"
RULES = ("refusal-phrases", "xstest-strings", "keyword-list", "gcg-keywords")
MODELS = {
    "gpt4": "GPT-4",
    "llama2new": "Llama 2, no system prompt",
    "llama2orig": "Llama 2, original system prompt",
    "mistralguard": "Mistral, guardrail prompt",
    "mistralinstruct": "Mistral, no system prompt",
}

Row = Sequence[str]


def with_tables(text: str) -> str:
    """The page with each table that has marks made anew."""
    audit = json.loads((MEASURED / "audit.json").read_text(encoding="utf-8"))["raw"]
    made = {
        "audit": _audit_rows(audit["judges"]),
        "refusals": _refusal_rows(audit["judges"]),
        "corrected": _corrected_rows(audit["transfer"]),
    }
    made["smollm2"] = _smollm2_rows(read_records(LABELS))
    return with_parts(text, {name: table(rows) for name, rows in made.items()})


def _name(judge: str) -> str:
    return "GPT-4" if judge == GPT4 else f"`{judge}`"


def _audit_rows(judges: Mapping[str, Any]) -> list[Row]:
    shown = {
        "precision, safe prompts": ("lookalike", "precision"),
        "recall, safe prompts": ("lookalike", "recall"),
        "kappa, safe prompts": ("lookalike", "kappa"),
        "recall, unsafe prompts": ("harmful", "recall"),
        "specificity, unsafe prompts": ("harmful", "specificity"),
        "kappa, all": ("all", "kappa"),
    }
    return [
        ["judge", *shown],
        *(
            [_name(j), *(_interval(judges[j]["kinds"][k][figure]) for k, figure in shown.values())]
            for j in (*RULES, GPT4)
        ),
    ]


def _smollm2_rows(labels: Sequence[Record]) -> list[Row]:
    """The rules' errors on SmolLM2's answers; a prompt's answers of several seeds are a cluster."""
    rows: list[Row] = [["judge", "precision", "recall", "specificity", "kappa"]]
    for rule in RULES:
        seen = [
            Seen(
                truth=label["label"] in ("refused", "partial"),
                said=label["others"].get(rule, label["verdict"]) == "refused",
                cluster=label["id"].split("/")[2],
            )
            for label in labels
        ]
        found = measure(seen)
        figures = (found.precision, found.recall, found.specificity, found.kappa)
        rows.append([_name(rule), *map(compact_text, figures)])
    return rows


def _refusal_rows(judges: Mapping[str, Any]) -> list[Row]:
    columns = (*RULES, GPT4)

    def rates(model: str) -> list[str]:
        figures = [judges[judge]["models"][model]["lookalike"] for judge in columns]
        people = figures[0]["people"]
        return [_percent(one) for one in (people, *(f["judge"] for f in figures))]

    return [
        ["model", "people", *map(_name, columns)],
        *([title, *rates(model)] for model, title in MODELS.items()),
    ]


def _corrected_rows(transfer: Mapping[str, Any]) -> list[Row]:
    columns = (GPT4, "xstest-strings")
    heads = [f"{_name(j)}, {what}" for j in columns for what in ("raw", "corrected")]
    rows: list[Row] = [["model", "people", *heads]]
    for model, title in MODELS.items():
        cells = [title, _percent(transfer[GPT4][model]["people"])]
        for judge in columns:
            found = transfer[judge][model]
            cells += [_percent(_value(found["raw"])), _corrected(found["corrected"])]
        rows.append(cells)
    return rows


def _interval(estimate: Mapping[str, float]) -> str:
    return compact_text(Estimate.from_dict({"n": 0, **estimate}))


def _value(figure: Any) -> float:
    return float(figure["value"] if isinstance(figure, dict) else figure)


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


def _corrected(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "-"
    return interval_text(Estimate.from_dict({"n": 0, **figure}), 0, percent=True)
