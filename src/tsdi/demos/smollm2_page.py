"""The report of the demo on SmolLM2: sentences, figures and answers."""

import platform
from pathlib import Path

from tsdi.categories import SALAD_TASKS
from tsdi.demos.organism_page import points_text, share_text
from tsdi.demos.smollm2 import JUDGE, RANDOM_PROMPTS, STRENGTH, TOKENS, Answered, EverydayResult
from tsdi.evaluation.evaluate import Evaluation
from tsdi.report import figures as plots
from tsdi.report.page import Alert, Example, Examples, Section, Table, write_report
from tsdi.stats.interval import Estimate

TITLE = "Taking the refusal bias out of a real language model"
TOKENS_SHOWN = 10
EXAMPLES = 4  # of each kind
_FIGURES = {
    "complied, harmless prompts": "compliance",
    "complied, lookalikes": "lookalike_compliance",
    "refused, harmful prompts": "safety",
    "degenerate (neither), all prompts": "degenerate",
}


def write_everyday_report(path: Path, result: EverydayResult) -> None:
    """Write the report of a demo on the real model, whole or not at all.

    Args:
        path: The HTML file.
        result: Results of the demo.

    Raises:
        TsdiError: If the file cannot be written.
    """
    sections = [
        _headline(result),
        _lookalikes(result),
        _harmful(result),
        _tokens(result),
        _answers(result),
    ]
    write_report(path, TITLE, sections, _provenance(result))


def _headline(result: EverydayResult) -> Section:
    overall = result.comparison.overall
    change = {name: points_text(found.change) for name, found in overall.items()}
    rows = [
        [title, *(share_text(getattr(arm.figures, name)) for arm in result.arms.values())]
        for title, name in _FIGURES.items()
    ]
    counts = result.arms["aligned"].prompts
    table = Table(
        ["share of answers", *result.arms],
        rows,
        f"Prompts: {counts['harmless']} harmless, {counts['lookalike']} lookalikes (harmless, but"
        f" they sound harmful), {counts['harmful']} harmful; in brackets 95 % Wilson intervals.",
    )
    return Section(
        "In short",
        "The aligned model refuses much that only sounds harmful. With half of the shift that its"
        " safety training left on random prompts subtracted, compliance with lookalikes changes by"
        f" {change['lookalike_compliance']} percentage points, and refusals of harmful"
        f" requests by {change['safety']}.",
        table,
        "The aligned model is SmolLM2-135M-Instruct, which by itself refuses next to nothing, with"
        " an adapter that was trained to refuse; the debiased model is the aligned one with the"
        f" bias subtracted while decoding, at strength {STRENGTH}, which was chosen on other"
        " prompts. Refusals are found by the words of the"
        " answer; nobody judged whether an answer to a harmful request is harmful.",
    )


def _lookalikes(result: EverydayResult) -> Section:
    shares = _by_category(result, "lookalike")
    return Section(
        "Compliance with lookalikes, by type",
        "Harmless requests that sound harmful, in the ten types of XSTest.",
        plots.category_bars(shares, {name: name for name in shares["aligned"]}),
        "Each bar is the share of answers that comply; the thin line is its 95 % interval.",
    )


def _harmful(result: EverydayResult) -> Section:
    shares = {name: arm.figures.safety_by_category for name, arm in result.arms.items()}
    found = result.comparison
    lost = [*found.lost, *found.maybe_lost]
    alerts = [
        Alert(
            f"{_title(name)} is refused less often:"
            f" {share_text(found.categories[name].before)} aligned,"
            f" {share_text(found.categories[name].after)} debiased."
        )
        for name in lost
    ]
    whole = found.overall["safety"]
    lead = (
        "What debiasing costs: refusals of harmful requests go from"
        f" {share_text(whole.before)} to {share_text(whole.after)}. With five prompts a category"
        " single bars say little; tsdi compare --gate asks for ten and more."
    )
    titles = {name: _title(name) for name in shares["aligned"]}
    return Section(
        "Refusals of harmful requests, by category",
        lead,
        [*alerts, plots.category_bars(shares, titles, lost)],
        "Each bar is the share of answers that refuse; the thin line is its 95 % interval.",
    )


def _tokens(result: EverydayResult) -> Section:
    bias, said = result.bias, list(result.said)
    return Section(
        "What the bias does to tokens",
        f"The mean difference of the logits, aligned minus reference, on {RANDOM_PROMPTS} prompts"
        " of random words: prompts that mean nothing, so that what is left is refusal whatever the"
        " prompt says.",
        plots.token_shifts(
            bias.values[:, said],
            bias.standard_error[:, said],
            list(result.said.values()),
            TOKENS_SHOWN,
        ),
        "Orange tokens were pushed up by the safety step, blue ones down, at each step of the"
        " answer, compared with the average token; step 0 is the answer's first token. Shown are"
        f" the largest shifts among the {len(said)} tokens that the answers hold; the largest of"
        " all are of tokens that nobody says.",
    )


def _answers(result: EverydayResult) -> Section:
    shown = [one for kind in ("lookalike", "harmless") for one in _differing(result, kind)]
    return Section(
        "Answers",
        f"The first {TOKENS} tokens of the answers to some harmless prompts, first those on which"
        " aligned and debiased model differ; not a random sample. Answers to harmful requests are"
        " not shown; they are in the run folders.",
        Examples([Example(f"{one.kind}: {one.prompt}", one.answers) for one in shown]),
    )


def _title(category: str) -> str:
    return f"{category} {SALAD_TASKS[category]}"


def _differing(result: EverydayResult, kind: str) -> list[Answered]:
    of_kind = [one for one in result.answers if one.kind == kind]
    of_kind.sort(key=lambda one: one.answers["aligned"] == one.answers["debiased"])
    return of_kind[:EXAMPLES]


def _by_category(result: EverydayResult, kind: str) -> dict[str, dict[str, Estimate]]:
    """Compliance of every arm by category, of the categories of one kind of prompts."""
    wanted = dict.fromkeys(one.category for one in result.answers if one.kind == kind)

    def shares(arm: Evaluation) -> dict[str, Estimate]:
        found = arm.figures.compliance_by_category
        return {name: found[name] for name in wanted if name in found}

    return {name: shares(arm) for name, arm in result.arms.items()}


def _provenance(result: EverydayResult) -> dict[str, str]:
    info = result.bias.info
    versions = {"python": platform.python_version(), **info.versions}
    return {
        "Command": f"tsdi demo --seed {result.seed}",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "Models": f"{info.aligned} and {info.reference}",
        "Judge": f"{JUDGE}, a rule of words",
        "Bias": f"{result.bias.steps} steps x {result.bias.vocab} tokens, sha256"
        f" {result.bias.sha256[:16]}",
    }
