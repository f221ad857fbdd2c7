"""The organism experiment's report and its tables, from the figures of its seeds.

`python -m tsdi.study.organism_report --results experiments/organism-dose --out DIR` writes
summary.json, tables.md and report.html. It trains nothing; what the report shows of single tokens
and answers is the demo's, on the pair that ships.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tsdi.errors import FormatError, TsdiError
from tsdi.files import parse_json, write_bytes, write_json
from tsdi.organism import CATEGORIES
from tsdi.report import figures as plots
from tsdi.report.figures import Dose, Line, Point, Series
from tsdi.report.page import Alert, Section, Table, write_report
from tsdi.stats.interval import Estimate
from tsdi.stats.seeds import mean_interval
from tsdi.study.demo import DemoResult, run_demo
from tsdi.study.demo_page import answers_section, log_odds_section, tokens_section
from tsdi.study.organism_tables import change, markdown, number, tables
from tsdi.study.organisms import HELP, TEST_SEEDS, VALIDATION_SEEDS, Figures, summarise
from tsdi.training.organism import Recipe

TITLE = "When does taking out the refusal bias help? An experiment on model organisms"
_HELP_TITLES = {
    "correct": "correct answers, harmless and lookalike requests",
    "compliance": "answers that comply, harmless and lookalike requests",
}
# --- the page -----------------------------------------------------------------------------------


def sections(summary: Figures, test: Sequence[Figures], demo: DemoResult) -> list[Section]:
    """The report's sections.

    Args:
        summary: What `summarise` found.
        test: The figures of the test seeds.
        demo: What the demo shows of the shipped pair.
    """
    found = tables(summary)
    return [
        _in_short(summary, found),
        *(_fronts(summary, test, help_, found) for help_ in HELP),
        _null(summary, found),
        _dose(summary, found),
        _gain(summary, found),
        _categories(summary, found),
        _findings(found),
        tokens_section(demo),
        log_odds_section(demo),
        answers_section(demo),
    ]


def _in_short(summary: Figures, found: Mapping[str, Table]) -> Section:
    recovery = summary["recovery"]
    price = recovery["safety_change"]
    alerts = [
        Alert(f"Debiasing costs safety: {change(price)} of harmful requests, mean over seeds.")
    ]
    costs = price["high"] is not None and price["high"] < 0
    return Section(
        "In short",
        f"Alignment lost {change(recovery['lost'])} of the compliance with lookalikes; debiasing "
        f"returns {change(recovery['gained'])}, and safety changes by {change(price)}.",
        [*(alerts if costs else []), found["The main model"], found["What returns, and its price"]],
        "The reference is the model before its safety step, the aligned model the one after it, "
        f"here {summary['main']}; the debiased model is the aligned one with its estimated bias "
        "subtracted; the random shift has the bias' norm at every step and no direction.",
    )


def _fronts(
    summary: Figures, test: Sequence[Figures], help_: str, found: Mapping[str, Table]
) -> Section:
    figure = plots.trade_off(
        trade_off_series(summary, test, help_), _HELP_TITLES[help_], "safe answers"
    )
    return Section(
        f"Trade-off: safety and {help_}",
        "Each open circle is one trained model, beta x iterations; its debiased version is a "
        "diamond. Mean over seeds.",
        [figure, found[f"Hypervolume of (safety, {help_})"]],
        "Further up is safer, further right more helpful. The hypervolume is the area that k "
        "settings dominate; both sides get the same k, chosen on validation.",
    )


def trade_off_series(summary: Figures, test: Sequence[Figures], help_: str) -> list[Series]:
    """What a trade-off shows, means over seeds: the null curves, the grid, and its other arms.

    Args:
        summary: What `summarise` found.
        test: The figures of the test seeds.
        help_: One of `HELP`, the horizontal axis.
    """
    main, constants = summary["main"], test[0]["settings"]["constants"]
    dose = test[0]["models"][main]["annotators"]
    names = [n for n, m in test[0]["models"].items() if m["annotators"] == dose]
    references = [seed["reference"]["test"] for seed in test]
    mains = [seed["models"][main]["test"] for seed in test]

    def point(label: str, shares: Sequence[Figures]) -> Point:
        x, y = (mean_interval([one[key] for one in shares]) for key in (help_, "safety"))
        return Point(label, x, y)

    def curve(title: str, models: Sequence[Figures]) -> Series:
        places = [
            [{key: values[i] for key, values in model["curve"].items()} for model in models]
            for i in range(len(constants))
        ]
        labels = [f"{title} = {c:+g}" for c in constants]
        return Series(title, "null", list(map(point, labels, places)))

    def grid(title: str, style: plots.Style, arm: str) -> Series:
        arms = [[seed["models"][name]["test"][arm] for seed in test] for name in names]
        labels = [f"{title}, {name}" for name in names]
        return Series(title, style, list(map(point, labels, arms)))

    return [
        curve("reference + c", references),
        curve("aligned + c", mains),
        Series("reference", "model", [point("reference", [one["plain"] for one in references])]),
        grid("aligned (grid)", "grid", "plain"),
        grid("debiased", "debiased", "debiased"),
        grid("random shift", "grid", "random"),
    ]


def _null(summary: Figures, found: Mapping[str, Table]) -> Section:
    return Section(
        "Is it more than one number?",
        "A constant on the refusing openers, tuned on each model's harmful validation requests "
        "with ground truth, against debiasing, which needs neither.",
        [found["Against one tuned number"], found["Telling harmful requests from lookalikes"]],
        "A constant moves a model along its own curve. Debiasing can beat the reference's curve "
        "only as far as alignment made the kinds of requests easier to tell apart.",
    )


def _dose(summary: Figures, found: Mapping[str, Table]) -> Section:
    doses = summary["dose"]

    def line(name: str, figure: str, key: str) -> Line:
        return Line(name, [Dose(d["annotators"], Estimate.from_dict(_bare(d[figure][key])),
                                d[figure][key]["seeds"]) for d in doses])  # fmt: skip

    x = "share of annotators who prefer refusals on harmless requests"
    return Section(
        "Dose-response",
        "The more annotators prefer refusals on harmless requests, the more bias there is to "
        "take out. Without them the organism is the clean one.",
        [
            plots.lines([line(f"{kind} requests", "shift", kind) for kind in doses[0]["shift"]], x,
                        "shift of refusal log-odds, nats", y_percent=False),
            plots.lines([line("lookalike compliance", "lookalike", "change"),
                         line("correct answers", "correct", "change"),
                         line("safety", "safety", "change")], x, "debiased minus aligned"),
            found["Dose-response"],
        ],
        "Dots are seeds, whiskers 95 % t-intervals of their mean.",
    )  # fmt: skip


def _bare(figure: Figures) -> dict[str, Any]:
    return {key: figure[key] for key in ("value", "low", "high", "n")}


def _gain(summary: Figures, found: Mapping[str, Table]) -> Section:
    points = summary["explained"]["points"]
    doses = sorted({point["annotators"] for point in points})
    groups = [
        Series(
            f"annotators {dose:g}",
            "grid",
            [
                Point(
                    f"seed {p['seed']}, beta {p['beta']:g}, {p['iterations']} iterations",
                    mean_interval([p["explained"]]),
                    mean_interval([p["gain"]]),
                )
                for p in points
                if p["annotators"] == dose and p["explained"] is not None
            ],
        )
        for dose in doses
    ]
    rank = summary["explained"]["rank_correlation"]
    return Section(
        "Gain and share of the shift explained",
        "Gain is the change of safety plus that of correct answers. Rank correlation with the "
        f"share explained, over the models of a seed: {number(rank)}.",
        [
            plots.scatter(
                groups,
                "share of the shift on lookalikes that the bias explains",
                "change of safety + correct",
            ),
            found["Share of the shift explained"],
        ],
        "Each dot is one trained model. If the bias explained all of the shift on real requests, "
        "debiasing would give the reference back.",
    )


def _findings(found: Mapping[str, Table]) -> Section:
    return Section(
        "Over beta and iterations",
        "The paper's findings F1, F2 and F4 on the aligned models, without debiasing.",
        [table for title, table in found.items() if title[:2] in ("F1", "F2")],
        "The smaller beta and the more iterations, the safer the models, the larger the shift on"
        " random prompts, and the fewer harmless requests are answered.",
    )


def _categories(summary: Figures, found: Mapping[str, Table]) -> Section:
    arms = {
        arm: {
            c: Estimate.from_dict(_bare(figure))
            for c, figure in summary["arms"][arm]["safety_by_category"].items()
        }
        for arm in ("reference", "aligned", "debiased")
    }
    titles = {c: f"{c} {title}" for c, title in CATEGORIES.items()}
    return Section(
        "Safety by category",
        "The main model, mean over seeds.",
        [plots.category_bars(arms, titles), found["Safety by category"]],
        "Whiskers are t-intervals over seeds.",
    )


# --- command ------------------------------------------------------------------------------------


def read_seeds(folder: Path, seeds: Sequence[int]) -> list[Figures]:
    """Read the result files of some seeds.

    Raises:
        FormatError: If one is missing, damaged, unfinished, of another seed, or made with other
            settings or versions than the first one.
    """
    found: list[Figures] = []
    for seed in seeds:
        path = folder / f"seed-{seed}.json"
        again = f"Run python -m tsdi.study.measure --models DIR --seed {seed} --out {path}."
        try:
            result = parse_json(path.read_bytes())
            whole = result["seed"] == seed and result["reference"] and result["models"]
            missing = _grid_names() - set(result["models"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FormatError(f"Cannot read {path}: {error!r}.", again) from None
        if not whole or missing:
            raise FormatError(f"{path} is not the whole of seed {seed}.", again)
        for key in ("settings", "versions", "recipe"):
            if found and found[0].get(key) != result.get(key):
                raise FormatError(f"{path} was made with other {key} than seed {seeds[0]}.", again)
        found.append(result)
    return found


def _grid_names() -> set[str]:
    return {name for alignment in Recipe().grid for name in alignment.names().values()}


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tsdi.study.organism_report", description=__doc__
    )
    parser.add_argument("--results", type=Path, required=True, help="folder of seed-N.json")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is written")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        every = read_seeds(options.results, (*VALIDATION_SEEDS, *TEST_SEEDS))
        validation, test = every[: len(VALIDATION_SEEDS)], every[len(VALIDATION_SEEDS) :]
        summary = summarise(validation, test)
        options.out.mkdir(parents=True, exist_ok=True)
        write_json(options.out / "summary.json", summary)
        write_bytes(options.out / "tables.md", markdown(summary).encode())
        demo = run_demo(0, lambda *_: None)
        provenance = {
            "Commands": test[0]["command"] + " for every seed, and " + parser.prog,
            "Seeds": json.dumps(summary["seeds"]),
            "Versions": ", ".join(f"{name} {v}" for name, v in test[0]["versions"].items()),
        }
        write_report(options.out / "report.html", TITLE, sections(summary, test, demo), provenance)
    except (TsdiError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
