"""The report of the demo on the organism: sentences, tables and figures."""

import platform
from collections.abc import Callable, Mapping
from pathlib import Path

from tsdi.demos.organism import COUNTS, PROMPT_TOKENS, RANDOM_PROMPTS, DemoResult
from tsdi.evaluation.metrics import ArmMetrics
from tsdi.organism import CATEGORIES
from tsdi.report import figures as plots
from tsdi.report.figures import Point, Series
from tsdi.report.page import Alert, Example, Examples, Part, Section, Table, write_report
from tsdi.stats.interval import Estimate, interval_text

TOKENS_SHOWN = 10
TITLE = "Taking the refusal bias out of a small safety-aligned model"
_ROWS: Mapping[str, Callable[[ArmMetrics], Estimate]] = {
    "complied, harmless prompts": lambda arm: arm.compliance,
    "complied, lookalikes": lambda arm: arm.lookalike_compliance,
    "correct, harmless prompts and lookalikes": lambda arm: arm.correct,
    "safe, harmful prompts": lambda arm: arm.safety,
    "hybrid (refuses and complies), all prompts": lambda arm: arm.hybrid,
    "degenerate (neither), all prompts": lambda arm: arm.degenerate,
}


def write_demo_report(path: Path, result: DemoResult) -> None:
    """Write the report of a demo, whole or not at all.

    Args:
        path: The HTML file.
        result: Results of the demo.

    Raises:
        TsdiError: If the file cannot be written.
    """
    sections = [
        _headline(result),
        _trade_off(result),
        _categories(result),
        tokens_section(result),
        log_odds_section(result),
        answers_section(result),
    ]
    write_report(path, TITLE, sections, _provenance(result))


def _headline(result: DemoResult) -> Section:
    aligned, debiased = result.arms["aligned"], result.arms["debiased"]
    changes = {
        name: points_text(change.change) for name, change in result.comparison.overall.items()
    }
    table = Table(
        ["share of answers", *result.arms],
        [
            [title, *(share_text(figure(arm)) for arm in result.arms.values())]
            for title, figure in _ROWS.items()
        ],
        f"Test prompts: {COUNTS['harmless']} harmless, {COUNTS['lookalike']} lookalikes, "
        f"{COUNTS['harmful']} harmful; in brackets 95 % Wilson intervals.",
    )
    return Section(
        "In short",
        "The safety step taught the model to refuse, and also to refuse harmless prompts that only "
        f"sound harmful: it complies with {_percent(_value(aligned.lookalike_compliance))} of "
        "these lookalikes. With the shift that the step left on random prompts subtracted, it "
        f"complies with {_percent(_value(debiased.lookalike_compliance))}. On the same prompts "
        f"correct answers change by {changes['correct']} percentage points, safety by "
        f"{changes['safety']}.",
        [table, *_alerts(result)],
        "The reference is the model before its safety step, the aligned model the one after it, "
        "the debiased model the aligned one with the estimated bias subtracted while decoding. A "
        "program that knows every right answer judged each answer.",
    )


def _trade_off(result: DemoResult) -> Section:
    correct = plots.trade_off(
        _series(result, lambda arm: arm.correct),
        "correct, harmless prompts + lookalikes",
        "safe answers, harmful prompts",
    )
    lookalikes = plots.trade_off(
        _series(result, lambda arm: arm.lookalike_compliance),
        "answers that comply, lookalikes",
        "safe answers, harmful prompts",
    )
    return Section(
        "Trade-off",
        "Is the bias worth more than one number? The dotted curves are the null hypothesis: the "
        "same model with a constant c added to its refusing openers at the first token, for "
        f"every c. The diagnosis says the same in one figure: of the bias at the first token, one "
        f"number on the refusing words makes up "
        f"{_percent(float(result.bias.info.diagnosis['one_number']))}.",
        [correct, lookalikes],
        "Further up is safer, further right is more helpful. A debiased point that is beyond both "
        "dotted curves by more than its whiskers does what no single number can; a point on a "
        "curve does what that number does. Whiskers are 95 % intervals; point at a marker or a "
        "curve for its figures.",
    )


def _series(result: DemoResult, x: Callable[[ArmMetrics], Estimate]) -> list[Series]:
    arms = result.arms
    found = [
        Series(
            f"{name} + c",
            "null",
            [
                Point(f"{name}, c = {at.constant:+.2f}", x(at.metrics), at.metrics.safety)
                for at in curve
            ],
        )
        for name, curve in result.curves.items()
    ]
    found += [
        Series(name, "model", [Point(name, x(arms[name]), arms[name].safety)])
        for name in ("reference", "aligned")
    ]
    debiased = {f"debiased, strength {s:g}": arm for s, arm in result.strengths.items()}
    debiased["debiased"] = arms["debiased"]
    return found + [
        Series(name, "debiased", [Point(name, x(arm), arm.safety)])
        for name, arm in debiased.items()
    ]


def _categories(result: DemoResult) -> Section:
    titles = {category: f"{category} {title}" for category, title in CATEGORIES.items()}
    lost = result.comparison.lost
    shares = {name: arm.safety_by_category for name, arm in result.arms.items()}
    beyond = ", ".join(result.comparison.maybe_lost) or "none"
    lead = (
        f"Debiasing costs safety in {len(lost)} of {len(titles)} categories, significantly (Holm "
        f"p < .05); beyond its own interval, but not significantly: {beyond}. An average alone "
        "would not show it."
    )
    return Section(
        "Safety by category",
        lead,
        [*_alerts(result), plots.category_bars(shares, titles, lost)],
        "One bar per model and category: the share of its answers to harmful prompts that are "
        "safe. The thin line on a bar is the 95 % interval; a category is lost if McNemar's test "
        "on the same prompts, adjusted over the categories by Holm's method, gives p < .05.",
    )


def _alerts(result: DemoResult) -> list[Part]:
    arms = result.arms
    return [
        Alert(
            f"Safety lost in {category} {CATEGORIES[category]}: "
            f"{_percent(_value(arms['aligned'].safety_by_category[category]))} aligned, "
            f"{_percent(_value(arms['debiased'].safety_by_category[category]))} debiased, "
            f"{_percent(_value(arms['reference'].safety_by_category[category]))} before alignment."
        )
        for category in result.comparison.lost
    ]


def tokens_section(result: DemoResult) -> Section:
    """Section with the tokens that the bias shifts most, by step."""
    bias = result.bias
    return Section(
        "What the bias does to tokens",
        f"The mean difference of the logits, aligned minus reference, on {RANDOM_PROMPTS} prompts "
        f"of {PROMPT_TOKENS} random tokens: prompts that mean nothing, so that what is left is "
        "refusal whatever the prompt says.",
        plots.token_shifts(bias.values, bias.standard_error, result.tokens, TOKENS_SHOWN),
        "Orange tokens were pushed up by the safety step, blue ones down, at each step of the "
        "answer, compared with the average token; step 0 is the answer's first token. Point "
        "at a cell for the shift and its standard error.",
    )


def log_odds_section(result: DemoResult) -> Section:
    """Section with the refusal log-odds of single prompts, by kind and arm."""
    return Section(
        "How refusing is each model?",
        f"{result.bias.info.diagnosis['verdict']}",
        plots.log_odds(result.log_odds),
        "Each shape holds single prompts of one kind: above zero, answers that begin with a "
        "refusal are more likely than answers that begin by complying. Good models are above zero "
        "on harmful prompts only; where lookalike and harmful shapes do not overlap, one number "
        "could tell them apart.",
    )


def answers_section(result: DemoResult) -> Section:
    """Section with some test prompts of each kind and every arm's answers."""
    titles = {"harmless": "harmless", "lookalike": "lookalike, harmless too", "harmful": "harmful"}
    items = [
        Example(f"{titles[kind]}: {example.item.prompt}", example.answers)
        for kind, examples in result.examples.items()
        for example in examples
    ]
    return Section(
        "Answers",
        "Test prompts of each kind, first those on which aligned and debiased model differ; not a "
        "random sample. The world is invented, and answers to its harmful prompts mean nothing.",
        Examples(items),
    )


def _provenance(result: DemoResult) -> dict[str, str]:
    info = result.bias.info
    versions = {"python": platform.python_version(), **info.versions}
    return {
        "Command": f"tsdi demo organism --seed {result.seed}",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "Seed": f"{result.seed}, for random and test prompts",
        "Models": f"{info.aligned} and {info.reference}, which come with tsdi",
        "Bias": f"{result.bias.steps} steps x {result.bias.vocab} tokens, sha256 "
        f"{result.bias.sha256[:16]}",
    }


def _value(estimate: Estimate) -> float:
    return float("nan") if estimate.value is None else estimate.value


def share_text(estimate: Estimate) -> str:
    """A share with its interval in per cent, as a page shows it."""
    shown = interval_text(estimate, 1, percent=True)  # a phone breaks before "[" only
    return shown.replace(" %", "\N{NO-BREAK SPACE}%").replace(", ", ",\N{NO-BREAK SPACE}")


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def points_text(change: Estimate) -> str:
    """A change with its interval in percentage points, as a page shows it."""
    if change.value is None:
        return "an unknown number of"
    shown = interval_text(change, 1, signed=True, percent=True)
    unbroken = shown.replace(" %", "").replace(", ", ",\N{NO-BREAK SPACE}")
    return unbroken.replace("-", "\N{MINUS SIGN}")
