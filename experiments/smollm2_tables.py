"""The table of what rules do on SmolLM2: on suites that settings were chosen on, and on others."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments import DOCS, HERE
from experiments.marks import table, with_parts
from tsdi.stats.interval import compact_text
from tsdi.stats.seeds import mean_interval
from tsdi.study.answers import Answers, outcome_array
from tsdi.study.fronts import share
from tsdi.study.outcomes import helpful, safe
from tsdi.study.results import read_results

RESULTS = HERE / "smollm2" / "results.json"
LABELS_RESULTS = HERE / "smollm2-labels" / "results.json"
ATTACKS = HERE / "smollm2-attacks" / "results.json"
SUITES = HERE / "smollm2-suites" / "results.json"
SEEN = HERE / "smollm2-attacked-labels" / "results.json"
PAGES = (HERE / "smollm2" / "README.md", DOCS / "condition.md")
NEW = ("xstest", "strongreject")
"""Suites of which no prompt was used for a fit or a choice."""
UNSEEN = ("physical-safe", "physical-unsafe", "malicious")
"""Suites of the study smollm2-labels that had no say in which suites its labels are of."""
SHORT = (
    *("plain", "tsdi", "tsdi-tuned", "openers", "random-shift", "merge", "conditioned"),
    *("conditioned-openers", "conditioned-shuffled", "conditioned-log-odds"),
)
"""Rules that README and docs show: what one would take, and the controls."""
RULES = {
    "plain": "no debiasing",
    "tsdi": "TSDI, strength 1",
    "tsdi-tuned": "TSDI, tuned",
    "openers": "one tuned number on refusing words",
    "random-shift": "random shift (control)",
    "static": "TSDI's mean over steps",
    "merge": "merged weights",
    "dera": "DeRa",
    "proxy": "proxy-tuning, of another seed's pair",
    "refusal-direction": "refusal direction ablated",
    "adacd": "AdaCD",
    "conditioned": "**TSDI with a condition**",
    "conditioned-first-order": "first order with a condition",
    "first-order": "first order",
    "conditioned-openers": "one number, with a condition",
    "conditioned-shuffled": "shuffled labels (control)",
    "conditioned-log-odds": "condition, log-odds alone",
    "conditioned-top-20": "condition of the 20 likeliest tokens",
    "reference-refuser": "reference that a condition makes refuse",
    "merge-refuser": "merge that a condition makes refuse",
    "reference": "the reference",
}
SEEING = {
    "conditioned": "TSDI, condition that has seen two",
    "conditioned-openers": "one number, condition that has seen two",
}
"""Rules of the study whose labels are under attacks, too."""
HEAD = ["rule", "refused, harmful", "complied, harmless"]
AHEAD = "lead"
BY_SUITE = {
    "JailbreakBench": ("jailbreakbench", "harmful"),
    "HarmBench": ("harmbench", "harmful"),
    "XSTest, harmful": ("xstest", "harmful"),
    "Alpaca": ("alpaca", "harmless"),
    "XSTest, safe": ("xstest", "lookalike"),
}
"""Columns of the study smollm2-suites: refused of the harmful prompts, complied with of others."""
Worth = Callable[[str], float | None]
KINDS: tuple[tuple[tuple[str, ...], Worth], ...] = (
    (("harmful",), safe),
    (("harmless", "lookalike"), helpful),
)


def with_tables(text: str) -> str:
    """A page with its table made anew."""
    parts = {}
    if "<!-- smollm2: begin" in text:
        parts["smollm2"] = by_suite(_Shares(RESULTS, NEW), "new suites")
    if "<!-- smollm2-short" in text:
        parts["smollm2-short"] = by_suite(_Shares(RESULTS, NEW), "new suites", SHORT)
    if "<!-- smollm2-labels" in text:
        shares = _Shares(LABELS_RESULTS, UNSEEN)
        parts["smollm2-labels"] = by_suite(shares, "physical safety, malicious")
    if "<!-- smollm2-attacks" in text:
        parts["smollm2-attacks"] = under_attack()
    if "<!-- smollm2-suites" in text:
        parts["smollm2-suites"] = on_suites()
    return with_parts(text, parts)


def in_short() -> list[list[str]]:
    """Every rule's shares of all test prompts, and a condition's lead by suites, known and new.

    The shares' intervals are in `by_suite`.
    """
    shares = _Shares(RESULTS, NEW)
    rows = [[*HEAD, "lead, suites of its labels", "lead, new suites"]]
    for name, title in shares.rules.items():
        if name not in SHORT:
            continue
        found = shares.of(name, range(len(shares.asked)))
        ahead = (shares.ahead(name, shares.places(is_new)) for is_new in (False, True))
        rows.append([title, *(one.partition(" ")[0] for one in found), *ahead])
    return rows


def by_suite(shares: "_Shares", new: str, rules: Sequence[str] = tuple(RULES)) -> str:
    """Rules' shares and a condition's lead by suites, the new ones apart under a name."""
    columns = (*HEAD[1:], AHEAD)
    rows = [["rule", *columns, *(f"{one}: {new}" for one in columns)]]
    for name in (name for name in shares.rules if name in rules):
        row = [shares.rules[name]]
        for places in (shares.places(is_new) for is_new in (False, True)):
            row += [*shares.of(name, places), shares.ahead(name, places)]
        rows.append(row)
    return table(rows)


def under_attack() -> str:
    """Shares refused of the harmful prompts under attacks; the last rules have seen two of them."""
    rows: list[list[str]] = []
    for file, titles in ((ATTACKS, RULES), (SEEN, SEEING)):
        shares = _Shares(file, NEW)
        rows = rows or [[*HEAD, *(f"refused, {name}" for name in shares.attacks)]]
        for rule in (name for name in titles if name in shares.rules):
            plain = shares.of(rule, range(len(shares.asked)))
            attacked = (shares.refused(rule, name) for name in shares.attacks)
            rows.append([titles[rule], *plain, *attacked])
    return table(rows)


def on_suites() -> str:
    """Shares by suite of the study whose test suites no label is of, and a condition's leads."""
    shares = _Shares(SUITES, ("xstest",))
    leads = {
        AHEAD: range(len(shares.asked)),
        f"{AHEAD}: XSTest": shares.places(True),
        f"{AHEAD}: others": shares.places(False),
    }
    rows = [["rule", *BY_SUITE, *leads]]
    for name, title in shares.rules.items():
        found = (shares.on(name, *where) for where in BY_SUITE.values())
        ahead = (shares.ahead(name, places) for places in leads.values())
        rows.append([title, *found, *ahead])
    return table(rows)


class _Shares:
    """Shares of answers of a study's rules, each with the settings that validation chose."""

    def __init__(self, file: Path, new: Sequence[str]) -> None:
        results = read_results(file)
        self._new = new
        self.asked = results.prompts["test"]
        self.attacks = results.study.attacks
        self._answers = Answers(results)
        self.rules = {name: title for name, title in RULES.items() if name in self._answers.by_rule}

    def places(self, is_new: bool) -> list[int]:
        """Indices of the test prompts of new suites, or of the others."""
        suites = [one.category.partition(":")[0] for one in self.asked]
        return [place for place, suite in enumerate(suites) if (suite in self._new) == is_new]

    def of(self, rule: str, places: Sequence[int]) -> list[str]:
        """Shares refused of the harmful prompts at some places, and complied with of the others."""
        return [compact_text(share(outcomes)) for outcomes in self._outcomes(rule, places)]

    def on(self, rule: str, suite: str, kind: str) -> str:
        """The share refused of a suite's harmful prompts, or complied with of those of a kind."""
        places = [
            place
            for place, one in enumerate(self.asked)
            if one.category.partition(":")[0] == suite and one.kind == kind
        ]
        kinds, value = KINDS[kind != "harmful"]
        return compact_text(share(self._of_kinds(rule, places, kinds, value)))

    def refused(self, rule: str, attack: str) -> str:
        """The share refused of the harmful prompts under an attack."""
        answers = self._answers
        cells = [
            answers.test_cells(rule, seed, answers.results.main, attack)[0]
            for seed in answers.test_seeds
        ]
        outcomes = outcome_array(
            [[cell.outcomes] for cell in cells], range(len(answers.harmful)), safe
        )
        return compact_text(share(outcomes[:, 0]))

    def ahead(self, rule: str, places: Sequence[int]) -> str:
        """How far a condition is ahead of a rule at some places, in refusals times compliance."""
        if rule == "conditioned":
            return ""
        ours, theirs = (self._products(one, places) for one in ("conditioned", rule))
        return compact_text(mean_interval((ours - theirs).tolist()), signed=True)

    def _products(self, rule: str, places: Sequence[int]) -> NDArray[np.float64]:
        """Refusals times compliance by seed."""
        refused, complied = (np.nanmean(one, -1) for one in self._outcomes(rule, places))
        return np.asarray(refused * complied)

    def _outcomes(self, rule: str, places: Sequence[int]) -> list[NDArray[np.float64]]:
        """Refusals of the harmful prompts, and compliance with the others, [seeds, prompts]."""
        return [self._of_kinds(rule, places, kinds, value) for kinds, value in KINDS]

    def _of_kinds(
        self, rule: str, places: Sequence[int], kinds: Sequence[str], value: Worth
    ) -> NDArray[np.float64]:
        """What answers to the prompts of some kinds are worth, [seeds, prompts]."""
        one = self._answers.by_rule[rule]
        best = one.validation.prod(-1).argmax(-1)  # of a rule without a grid: its settings
        here = [place for place in places if self.asked[place].kind in kinds]
        outcomes = outcome_array(one.codes, here, value)
        return np.stack([row[at] for row, at in zip(outcomes, best, strict=True)])
