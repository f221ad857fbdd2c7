"""What the real-text models show, from the files of `tsdi.study.real_text`, as tables.

`python -m tsdi.study.real_text_tables --results RESULTS --out tables.md` writes them. One training
seed made the models, so every interval is over prompts (or over sets of random prompts), and says
nothing of other training seeds. The main model, the smallest beta after the most iterations, was
named before any was measured.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import chi2_contingency

from tsdi.errors import TsdiError
from tsdi.files import write_bytes
from tsdi.report.page import Table
from tsdi.stats.bootstrap import paired_bootstrap
from tsdi.stats.proportions import holm, mcnemar, paired_change, wilson
from tsdi.stats.seeds import mean_interval
from tsdi.study.organism_tables import change, level, markdown_tables, number
from tsdi.study.real_text_results import Figures, Results, read_results

HARMFUL = {"BeaverTails": "beavertails", "PKU, held out": "pku", "XSTest, unsafe": "xstest"}
HARMLESS = {"Alpaca, held out": "alpaca", "OR-Bench": "or-bench", "XSTest, safe": "xstest"}
HEADER = """# Tables of the real-text experiment

Made by `python -m tsdi.study.real_text_tables` from `experiments/real-text-suites/*.json`; not
edited by hand. What they say is in [README.md](README.md).
"""
_PROMPTS = "95 % intervals over prompts; one training seed."


def tables(results: Results) -> dict[str, Table]:
    """The experiment's results by what they say."""
    return {
        "What the string rules find among PKU's held-out answers": _rules_table(results),
        "F2: safety and compliance over beta/lambda and iterations": _grid_table(results),
        "F2: what smaller beta/lambda and more iterations change": _trend_table(results),
        "F1: refusals by category": _categories_table(results),
        "F4: shift on random prompts, negative less affirmative tokens": _shift_table(results),
        "F4: shift at later positions, main model": _positions_table(results),
        "F4: tokens that move most on random prompts, main model": _tokens_table(results),
        "Refusal log-odds by kind of prompt, main model": _odds_table(results),
        "Debiased minus aligned, every model": _debiased_table(results),
        "Debiased against the best aligned model that complies as often": _front_table(results),
        "Debiased minus aligned by suite, main model": _suites_table(results),
    }


def _rules_table(results: Results) -> Table:
    rows = []
    for name, found in results.suites["rules"].items():
        shares = [_wilson([flag == "1" for flag in found[side]]) for side in ("safe", "unsafe")]
        rows.append([name + (" (used)" if name == results.rule else ""), *shares])
    n = len(results.suites["rules"][results.rule]["safe"])
    note = f"Share called refusals of {n} answers each that people called safe, and unsafe."
    return Table(["rule", "safe answers", "unsafe answers"], rows, note)


def _grid_table(results: Results) -> Table:
    rows = []
    for name in ("sft", "helpful", *results.aligned):
        one = results.models[name]
        rows.append(
            [
                _title(name, one),
                *(_wilson(results.refused(name, "plain", s, "harmful")) for s in HARMFUL.values()),
                *(_wilson(_complied(results, name, "plain", s)) for s in HARMLESS.values()),
                _wilson(results.corrupt(name, "plain")),
                number(mean_interval(one["loss"]).to_dict()),
            ]
        )
    header = [
        "model",
        *(f"refused, {name}" for name in HARMFUL),
        *(f"complied, {name}" for name in HARMLESS),
        "corrupt",
        "loss, Alpaca answers",
    ]
    note = (
        f"{_PROMPTS} Refused by the rule {results.rule}; corrupt: empty, or the same four words"
        " twice; loss in nats a token on answers that were held out."
    )
    return Table(header, rows, note)


def _title(name: str, one: Figures) -> str:
    return f"beta {one['beta']:g}, {one['iterations']}" if "beta" in one else name


def _complied(results: Results, model: str, arm: str, suite: str) -> list[bool]:
    kind = "lookalike" if suite == "xstest" else ""
    return [not refused for refused in results.refused(model, arm, suite, kind)]


def _wilson(flags: Sequence[bool]) -> str:
    return level(wilson(sum(flags), len(flags)).to_dict())


def _trend_table(results: Results) -> Table:
    found = list(results.aligned.values())
    betas = sorted({one["beta"] for one in found})
    steps = sorted({one["iterations"] for one in found})
    names = {(one["beta"], one["iterations"]): one["model"] for one in found}
    pairs = {
        f"{steps[-1]} against {steps[0]} iterations, beta {beta:g}": (
            names[beta, steps[0]],
            names[beta, steps[-1]],
        )
        for beta in (betas[0], betas[-1])
    } | {
        f"beta {betas[0]:g} against {betas[-1]:g}, {step} iterations": (
            names[betas[-1], step],
            names[betas[0], step],
        )
        for step in (steps[0], steps[-1])
    }
    rows = []
    for title, (before, after) in pairs.items():
        losses = [results.models[name]["loss"] for name in (before, after)]
        rows.append(
            [
                title,
                change(_paired(results, before, after, all_refused)),
                change(_paired(results, before, after, all_complied)),
                change(_paired(results, before, after, Results.corrupt)),
                number(paired_bootstrap(_mean, *losses).to_dict()),
            ]
        )
    header = ["", "refused, harmful", "complied, harmless", "corrupt", "loss"]
    return Table(header, rows, f"All suites of a kind together. {_PROMPTS}")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def all_refused(results: Results, model: str, arm: str) -> list[bool]:
    """Whether each answer to any harmful prompt is a refusal."""
    return [f for s in HARMFUL.values() for f in results.refused(model, arm, s, "harmful")]


def all_complied(results: Results, model: str, arm: str) -> list[bool]:
    """Whether each answer to any harmless prompt complies."""
    return [f for s in HARMLESS.values() for f in _complied(results, model, arm, s)]


Flags = Callable[[Results, str, str], list[bool]]


def _paired(results: Results, before: str, after: str, flags: Flags) -> Figures:
    return paired_change(flags(results, before, "plain"), flags(results, after, "plain")).to_dict()


def _categories_table(results: Results) -> Table:
    categories = results.suites["suites"]["beavertails"]["categories"]
    columns = {
        "helpful": results.refused("helpful", "plain", "beavertails"),
        "aligned": results.refused(results.main, "plain", "beavertails"),
        "debiased": results.refused(results.main, "debiased", "beavertails"),
    }
    names = sorted(set(categories))
    by = {
        name: {
            column: [f for f, c in zip(flags, categories, strict=True) if c == name]
            for column, flags in columns.items()
        }
        for name in names
    }
    adjusted = holm([mcnemar(by[n]["aligned"], by[n]["debiased"]) for n in names])
    rows = [
        [
            name.replace("_", " ").replace(",", ", "),
            *(_wilson(by[name][column]) for column in columns),
            change(paired_change(by[name]["aligned"], by[name]["debiased"]).to_dict()),
            f"{p:.3f}",
        ]
        for name, p in zip(names, adjusted, strict=True)
    ]
    rows.append(
        ["all", *(_wilson(flags) for flags in columns.values()),
         change(paired_change(columns["aligned"], columns["debiased"]).to_dict()), ""]
    )  # fmt: skip
    p_values = {column: _homogeneous([by[n][column] for n in names]) for column in columns}
    tests = ", ".join(f"{column} p = {p:.2g}" for column, p in p_values.items())
    note = (
        f"Refusal rate on BeaverTails-Evaluation, not safety. {_PROMPTS} Last column: exact McNemar"
        f" test of the change, Holm-adjusted. Chi-squared test that all categories are alike:"
        f" {tests}."
    )
    header = ["category", *columns, "debiased minus aligned", "p"]
    return Table(header, rows, note)


def _homogeneous(groups: Sequence[Sequence[bool]]) -> float:
    counts = np.array([[sum(g), len(g) - sum(g)] for g in groups])
    if not counts.sum(0).all():
        return 1.0
    return float(chi2_contingency(counts).pvalue)


def _shift_table(results: Results) -> Table:
    rows = []
    for one in results.aligned.values():
        bias = one["bias"]
        later = [position["difference"] for position in bias["words"][1:]]
        rows.append(
            [
                _title("", one),
                number(bias["openers"][0]["difference"]),
                number(bias["words"][0]["difference"]),
                f"{np.mean([p['value'] for p in later]):+.2f} ({_above(later)} of {len(later)})",
                number(one["diagnosis"]["shift"]["random"]),
                f"{bias['norm'][0]:.1f}",
            ]
        )
    header = [
        "model",
        "openers, position 0",
        "words, position 0",
        "words, positions 1 to 15",
        "refusal log-odds",
        "norm of the bias",
    ]
    settings = results.suites["settings"]
    note = (
        f"Logits; mean over {settings['groups']} independent sets of"
        f" {settings['random_prompts'] // settings['groups']} random prompts with 95 % t-interval."
        " Openers: first tokens of refusing less those of complying beginnings. Words:"
        f" {', '.join(w.strip() for w in settings['words']['negative'])} less"
        f" {', '.join(w.strip() for w in settings['words']['affirmative'])}; in brackets, at how"
        " many positions the interval is above 0. Log-odds in nats on other random prompts."
    )
    return Table(header, rows, note)


def _above(positions: Sequence[Figures]) -> int:
    return sum(position["low"] > 0 for position in positions)


def _positions_table(results: Results) -> Table:
    bias = results.models[results.main]["bias"]
    rows = [
        [str(step), *(number(bias[kind][step][side]) for kind in ("openers", "words") for side in
                      ("negative", "affirmative", "difference"))]
        for step in range(len(bias["words"]))
    ]  # fmt: skip
    header = ["position", *(f"{k}, {s}" for k in ("openers", "words")
                            for s in ("negative", "affirmative", "difference"))]  # fmt: skip
    return Table(header, rows, "Centred logits, as in the table before.")


def _tokens_table(results: Results) -> Table:
    tokens = results.models[results.main]["bias"]["tokens"]
    rows = [
        [position, " ".join(map(_shown, found["up"])), " ".join(map(_shown, found["down"]))]
        for position, found in tokens.items()
    ]
    return Table(["position", "up", "down"], rows, "Largest first; ␣ is a blank.")


def _shown(token: str) -> str:
    printable = "".join(c if c.isprintable() else "?" for c in token.replace(" ", "␣"))
    return f"`{printable}`" if not set(printable) & set("`|") else "(sign)"


def _odds_table(results: Results) -> Table:
    found = results.models[results.main]["diagnosis"]
    rows = [
        [kind, number(shift), number(found["explained"][kind])]
        for kind, shift in found["shift"].items()
    ]
    note = (
        f"{results.suites['settings']['diagnosed']} prompts of each kind. Shift of the log-odds of"
        " refusing against complying beginnings, nats; share of the real shift along the model's"
        " own answers that the one bias explains."
    )
    return Table(["prompts", "shift", "share explained"], rows, note)


def _debiased_table(results: Results) -> Table:
    rows = []
    for name, one in results.aligned.items():
        changes = [
            paired_change(flags(results, name, "plain"), flags(results, name, "debiased"))
            for flags in (all_refused, all_complied, Results.corrupt)
        ]
        rows.append([_title("", one), *(change(c.to_dict()) for c in changes)])
    header = ["model", "refused, harmful", "complied, harmless", "corrupt"]
    return Table(header, rows, f"All suites of a kind together, strength 1. {_PROMPTS}")


def _front_table(results: Results) -> Table:
    """What debiasing gains over stopping earlier or a larger beta, which cost nothing either."""
    plain = ["helpful", *results.aligned]
    help_ = {name: sum(all_complied(results, name, "plain")) for name in plain}
    safety = {name: sum(all_refused(results, name, "plain")) for name in plain}
    rows = []
    for name, one in results.aligned.items():
        enough = sum(all_complied(results, name, "debiased"))
        rivals = [rival for rival in plain if help_[rival] >= enough]
        if not rivals:
            rows.append([_title("", one), "none", "-", "-"])
            continue
        best = max(rivals, key=lambda rival: safety[rival])
        moves = [
            change(
                paired_change(
                    flags(results, best, "plain"), flags(results, name, "debiased")
                ).to_dict()
            )
            for flags in (all_refused, all_complied)
        ]
        rows.append([_title("", one), _title(best, results.models[best]), *moves])
    header = ["debiased", "aligned, plain", "refused, harmful", "complied, harmless"]
    note = (
        "Debiased minus the plain model that refuses most harmful prompts of those that comply with"
        " at least as many harmless ones; picked on the same prompts, which favours it. All suites"
        f" of a kind together. {_PROMPTS}"
    )
    return Table(header, rows, note)


def _suites_table(results: Results) -> Table:
    def refused(model: str, arm: str, suite: str) -> list[bool]:
        return results.refused(model, arm, suite, "harmful")

    def complied(model: str, arm: str, suite: str) -> list[bool]:
        return _complied(results, model, arm, suite)

    rows = []
    for kind, suites, flags in (("refused", HARMFUL, refused), ("complied", HARMLESS, complied)):
        for title, suite in suites.items():
            arms = [("helpful", "plain"), (results.main, "plain"), (results.main, "debiased")]
            reference, before, after = (flags(*arm, suite) for arm in arms)
            moved = change(paired_change(before, after).to_dict())
            shares = map(_wilson, (reference, before, after))
            rows.append([f"{kind}, {title}", *shares, moved])
    return Table(["", "helpful", "aligned", "debiased", "debiased minus aligned"], rows, _PROMPTS)


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tsdi.study.real_text_tables", description=__doc__
    )
    parser.add_argument("--results", type=Path, required=True, help="folder of the result files")
    parser.add_argument("--out", type=Path, required=True, help="file for the tables, .md")
    options = parser.parse_args(arguments)
    try:
        text = markdown_tables(HEADER, tables(read_results(options.results)))
        write_bytes(options.out, text.encode())
    except (TsdiError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
