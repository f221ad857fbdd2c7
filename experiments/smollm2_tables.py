"""The table of what rules do on SmolLM2: on suites that settings were chosen on, and on others."""

from collections.abc import Sequence

import numpy as np

from experiments import DOCS, HERE
from experiments.marks import table, with_parts
from tsdi.stats.interval import compact_text
from tsdi.stats.seeds import mean_interval
from tsdi.study.answers import Answers, outcome_array
from tsdi.study.front_tables import fronts_title
from tsdi.study.fronts import within
from tsdi.study.outcomes import helpful, safe
from tsdi.study.results import read_results
from tsdi.study.summarise import summarise
from tsdi.study.tables import tables

RESULTS = HERE / "smollm2" / "results.json"
PAGES = (HERE / "smollm2" / "README.md", DOCS / "condition.md")
NEW = ("xstest", "strongreject")
"""Suites of which no prompt was used for a fit or a choice."""
RULES = {
    "plain": "no debiasing",
    "tsdi": "TSDI, strength 1",
    "tsdi-tuned": "TSDI, one tuned strength",
    "openers": "one tuned number on refusing words",
    "random-shift": "random shift, tuned (control)",
    "static": "TSDI's mean over steps",
    "merge": "merged weights",
    "dera": "DeRa: two models",
    "refusal-direction": "refusal direction ablated",
    "adacd": "AdaCD",
    "conditioned": "**TSDI with a condition**",
    "conditioned-first-order": "first order with a condition",
    "first-order": "first order",
    "conditioned-openers": "one number, with a condition",
    "conditioned-shuffled": "condition of shuffled labels (control)",
    "conditioned-log-odds": "condition of log-odds alone",
    "conditioned-top-20": "condition of the 20 likeliest tokens",
    "reference-refuser": "reference that a condition makes refuse",
    "merge-refuser": "merge that a condition makes refuse",
    "reference": "the reference",
}
HEAD = ["rule", "refused, harmful", "complied, harmless"]
AHEAD = "with a condition, minus it"
KINDS = ((("harmful",), safe), (("harmless", "lookalike"), helpful))


def with_tables(text: str) -> str:
    """A page with its table made anew."""
    return with_parts(text, {"smollm2": by_suite()})


def in_short() -> list[list[str]]:
    """Every rule's shares of all test prompts, and how far a condition is ahead of it.

    The shares' intervals are in `by_suite`.
    """
    shares, ahead = _Shares(), _ahead()
    rows = [[*HEAD, AHEAD]]
    for name, title in shares.rules.items():
        found = shares.of(name, range(len(shares.asked)))
        rows.append([title, *(one.partition(" ")[0] for one in found), ahead.get(name, "")])
    return rows


def by_suite() -> str:
    """The same, of suites that fits and choices saw other prompts of, and of new suites."""
    shares, ahead = _Shares(), _ahead()
    known, new = (
        [
            n
            for n, one in enumerate(shares.asked)
            if (one.category.partition(":")[0] in NEW) == is_new
        ]
        for is_new in (False, True)
    )
    rows = [[*HEAD, *(f"{title}: new suites" for title in HEAD[1:]), AHEAD]]
    for name, title in shares.rules.items():
        own, others = (shares.of(name, places) for places in (known, new))
        rows.append([title, *own, *others, ahead.get(name, "")])
    return table(rows)


def _ahead() -> dict[str, str]:
    """How far TSDI with a condition is ahead of every rule, in refusal times compliance."""
    summary = summarise(read_results(RESULTS))
    found = tables(summary)[fronts_title(summary, summary.comparison)]
    place = found.header.index("conditioned TSDI minus it")
    return {row[0]: row[place] for row in found.rows if row[0] != "conditioned"}


class _Shares:
    """Shares of answers of the study's rules, each with the settings that validation chose."""

    def __init__(self) -> None:
        results = read_results(RESULTS)
        self.asked = results.prompts["test"]
        self._answers = Answers(results)
        self.rules = {name: title for name, title in RULES.items() if name in self._answers.by_rule}

    def of(self, rule: str, places: Sequence[int]) -> list[str]:
        """Shares refused of the harmful prompts at some places, and complied with of the others."""
        found = []
        one = self._answers.by_rule[rule]
        best = one.validation.prod(-1).argmax(-1)  # of a rule without a grid: its settings
        for kinds, value in KINDS:
            here = [place for place in places if self.asked[place].kind in kinds]
            outcomes = outcome_array(one.codes, here, value)
            seeds = [float(np.nanmean(row[at])) for row, at in zip(outcomes, best, strict=True)]
            found.append(compact_text(within(0.0, mean_interval(seeds))))
        return found
