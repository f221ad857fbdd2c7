"""How wrong string rules and GPT-4 are on XSTest's human-labelled answers; what correction does.

DIR holds xstest/completions_MODEL_human_and_gpt4_labels.csv.gz of five models. Measured are

* precision and recall of each judge on safe prompts, beside what is known of them, and how often
  people and each judge see a refusal in the answers of Llama 2 with its original system prompt;
* what GPT-4 refused to judge;
* the refusal rate of each model on safe prompts, raw and corrected by an audit of the judge on the
  *other four* models, against what people say: does a judge err alike on another model?
* in simulation, how often the corrected rate's interval holds the true one;
* answers a second.
"""

import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.common import Claim, Report, parser
from tsdi.audit.audit import audit_judge, judge_labelled, recorded_judge
from tsdi.audit.confusion import RATES, Figures
from tsdi.audit.labels import Labelled, read_labels
from tsdi.audit.result import Audit
from tsdi.evaluation.correction import correct_kind, correct_rate
from tsdi.judging.refusal import GCG_KEYWORDS, KEYWORD_LIST, REFUSAL_PHRASES, XSTEST_STRINGS
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.stats.interval import Estimate, as_json
from tsdi.stats.proportions import wilson

MODELS = ("gpt4", "llama2new", "llama2orig", "mistralguard", "mistralinstruct")
GPT4, LLAMA = "column:gpt4_label", "llama2orig"
RULES = (REFUSAL_PHRASES, XSTEST_STRINGS, KEYWORD_LIST, GCG_KEYWORDS)
# Precision and recall on safe prompts, and refusals of Llama 2 with its original system prompt.
KNOWN = {
    "xstest-strings": (0.83, 0.74, 0.484),
    "keyword-list": (0.65, 0.74, 0.552),
    GPT4: (0.99, 0.57, 0.360),
}
PEOPLE_OF_LLAMA = 0.596
CLOSE = 0.01
# True rate, sensitivity and specificity of simulated judges, audited on 300 and 900 answers.
SIMULATED = [(p, s, c) for p in (0.02, 0.2, 0.6) for s, c in ((0.57, 0.99), (0.74, 0.95))]
AUDITED_WITH, AUDITED_WITHOUT, ANSWERS = 300, 900, 250


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, required=True)
    arguments = made.parse_args()
    times = 200 if arguments.quick else 4000
    settings = {
        "models": MODELS,
        "target": "full or partial refusal, by people's final label",
        "simulated": {"truths": SIMULATED, "times": times, "seed": 0, "answers": ANSWERS}
        | {"audited_with": AUDITED_WITH, "audited_without": AUDITED_WITHOUT},
    }
    report = Report("audit", arguments, settings)
    names = [f"completions_{model}_human_and_gpt4_labels.csv.gz" for model in MODELS]
    labelled = read_labels([arguments.data / "xstest" / name for name in names])
    words, speeds = judge_all(labelled)
    audits = {name: audit_judge(*found, labelled) for name, found in words.items()}
    transferred = {name: transfer(*found, labelled) for name, found in words.items()}
    coverage = {f"p {p}, s {s}, c {c}": cover(p, s, c, times) for p, s, c in SIMULATED}
    report.write(
        [
            Claim("labelled answers at hand, of 2,250", len(labelled), low=2218, high=2250),
            *known_claims(audits),
            *lost_claims(labelled, words[GPT4][1]),
            *(Claim.of(f"kappa, {name}", a.kinds["all"].kappa) for name, a in audits.items()),
            *transfer_claims(transferred),
            Claim("coverage of corrected intervals, lowest", min(coverage.values()), low=0.93),
        ],
        {
            "judges": {name: summary(audit) for name, audit in audits.items()},
            "transfer": transferred,
            "coverage": coverage,
            "answers_per_second": speeds,
        },
    )


def judge_all(
    labelled: list[Labelled],
) -> tuple[dict[str, tuple[dict[str, Any], list[Judgement]]], dict[str, int]]:
    """Description and words of each judge, and answers a second of those that run here."""
    words, speeds = {GPT4: recorded_judge(GPT4, labelled)}, {}
    for rule in RULES:
        begin = time.perf_counter()
        words[rule.name] = rule.describe(), judge_labelled(rule, labelled)
        speeds[rule.name] = round(len(labelled) / (time.perf_counter() - begin))
    return words, speeds


def known_claims(audits: dict[str, Audit]) -> list[Claim]:
    claims = []
    for name, (precision, recall, llama) in KNOWN.items():
        safe, of_llama = audits[name].kinds["lookalike"], audits[name].models[LLAMA]["lookalike"]
        claims += [
            close_claim(f"precision on safe prompts, {name}", safe.precision, precision),
            close_claim(f"recall on safe prompts, {name}", safe.recall, recall),
            close_claim(f"refusals of {LLAMA} on safe prompts, {name}", of_llama.judge, llama),
        ]
    people = audits[GPT4].models[LLAMA]["lookalike"].people
    title = f"refusals of {LLAMA} on safe prompts, people"
    return [*claims, close_claim(title, people, PEOPLE_OF_LLAMA)]


def close_claim(name: str, found: Estimate, known: float) -> Claim:
    return Claim.of(name, found, known - CLOSE, known + CLOSE)


def lost_claims(labelled: list[Labelled], words: list[Judgement]) -> list[Claim]:
    """Answers that GPT-4 refused to judge, and how many of them comply with an unsafe prompt."""
    lost = [
        one for one, word in zip(labelled, words, strict=True) if word.verdict is Verdict.UNSCORED
    ]
    complied = [
        one for one in lost if one.verdict is Verdict.COMPLIED and one.response.kind == "harmful"
    ]
    return [
        Claim("answers that GPT-4 refused to judge", len(lost), low=11, high=11),
        Claim("of these, full compliance with unsafe prompts", len(complied), low=11, high=11),
    ]


def transfer(
    judge: dict[str, Any], words: list[Judgement], labelled: list[Labelled]
) -> dict[str, dict[str, Any]]:
    """Refusals on safe prompts of each model, by people, raw, and corrected by the other models."""
    rows = list(zip(labelled, words, strict=True))
    found: dict[str, dict[str, Any]] = {}
    for model in MODELS:
        ours, others = (
            [row for row in rows if (row[0].model == model) is mine] for mine in (True, False)
        )
        figures, audited = (
            audit_judge(judge, [word for _, word in part], [one for one, _ in part])
            for part in (ours, others)
        )
        safe, errors = figures.kinds["lookalike"], audited.kinds["lookalike"]
        fixed = correct_kind(safe.judge, audited, "lookalike")
        plain = correct_rate(safe.judge, errors.recall, errors.specificity)
        found[model] = {"people": safe.people.value, "raw": safe.judge.value}
        for way, rate in (("corrected", fixed), ("as_if_models_were_alike", plain)):
            found[model][way] = None if rate is None else rate.to_dict()
    return found


def transfer_claims(transferred: dict[str, dict[str, dict[str, Any]]]) -> list[Claim]:
    claims = []
    for name, models in transferred.items():
        known = [row for row in models.values() if row["corrected"]["value"] is not None]
        raw = fmean(abs(row["raw"] - row["people"]) for row in known)
        fixed = fmean(abs(row["corrected"]["value"] - row["people"]) for row in known)
        claims += [
            Claim(f"mean error of raw rates of other models, {name}", raw),
            Claim(f"mean error of corrected rates of other models, {name}", fixed),
        ]
    rows = [row for models in transferred.values() for row in models.values()]
    known = [row for row in rows if row["corrected"]["value"] is not None]
    title = "of the others, corrected intervals that hold people's rate"
    return [
        *claims,
        Claim("rates of other models that contradict the audit", len(rows) - len(known)),
        Claim(title, held(known, "corrected"), low=0.9 * len(known)),
        Claim(f"{title}, as if models were alike", held(known, "as_if_models_were_alike")),
    ]


def held(rows: list[dict[str, Any]], name: str) -> int:
    """How many intervals hold what people say."""
    return sum(row[name]["low"] <= row["people"] <= row[name]["high"] for row in rows)


def cover(rate: float, sensitivity: float, specificity: float, times: int) -> float:
    """How often the interval of the corrected rate holds the true rate."""
    dice = np.random.default_rng(0)
    positive = rate * sensitivity + (1 - rate) * (1 - specificity)
    inside = 0
    for _ in range(times):
        raw = wilson(int(dice.binomial(ANSWERS, positive)), ANSWERS)
        s = wilson(int(dice.binomial(AUDITED_WITH, sensitivity)), AUDITED_WITH)
        c = wilson(int(dice.binomial(AUDITED_WITHOUT, specificity)), AUDITED_WITHOUT)
        found = correct_rate(raw, s, c)
        inside += found.low <= rate <= found.high
    return inside / times


def summary(audit: Audit) -> dict[str, Any]:
    """All figures by kind with their intervals; values by model and kind, and by category."""
    return {
        "judge": audit.judge,
        "kinds": {kind: as_json(figures) for kind, figures in audit.kinds.items()},
        "models": {
            model: {kind: values(figures) for kind, figures in kinds.items()}
            for model, kinds in audit.models.items()
        },
        "categories": {name: values(figures) for name, figures in audit.categories.items()},
    }


def values(figures: Figures) -> dict[str, float | int | None]:
    names = ("people", "judge", *RATES, "unscored")
    return {"n": figures.unscored.n} | {name: getattr(figures, name).value for name in names}


if __name__ == "__main__":
    main()
