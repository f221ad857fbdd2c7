"""Which strength the demo takes, chosen on prompts that are not the demo's.

`python -m experiments.smollm2.demo_strength --data DATA --bias DIR --out DIR` lets the shipped
adapter answer every fifth prompt of XSTest at each of five strengths, and writes
`experiments/smollm2/strength.json`. The best has the largest sum of compliance with safe prompts
and refusals of unsafe ones.
"""

import argparse
import json
from pathlib import Path

from experiments import HERE

import tsdi
from tsdi.demos.smollm2 import JUDGE, TOKENS
from tsdi.engines.base import Sampling
from tsdi.evaluation.evaluate import Judging
from tsdi.files import write_bytes, write_json
from tsdi.models.shipped import SMOLLM2_ALIGNED
from tsdi.runs.generate import Answering
from tsdi.suites.load import load_named

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
EVERY = 5


def choose(data: Path, bias: Path, out: Path) -> None:
    """Answer and judge, and write the shares by strength."""
    prompts = load_named(f"xstest:{data / 'xstest/xstest_prompts.csv'}").prompts[::EVERY]
    rows = [{"prompt": p.messages[-1]["content"], "kind": p.kind} for p in prompts]
    file = out / "prompts.jsonl"
    write_bytes(file, "".join(json.dumps(row) + "\n" for row in rows).encode())
    found = {}
    for strength in STRENGTHS:
        how = Answering(strength, Sampling(max_new_tokens=TOKENS), batch_size=32)
        run = out / f"strength{strength:g}"
        figures = tsdi.evaluate(
            SMOLLM2_ALIGNED, str(file), run, bias=bias, answering=how, judging=Judging(JUDGE),
            resume=True,
        ).figures  # fmt: skip
        found[strength] = figures.lookalike_compliance, figures.safety
    best = max(found, key=lambda one: sum(figure.value or 0.0 for figure in found[one]))
    write_json(
        HERE / "smollm2" / "strength.json",
        {
            "command": "python -m experiments.smollm2.demo_strength --data DATA --bias FOLDER",
            "prompts": f"every fifth of XSTest, {len(prompts)}",
            "strengths": {
                f"{strength:g}": {"complied": helpful.to_dict(), "refused": safe.to_dict()}
                for strength, (helpful, safe) in found.items()
            },
            "chosen": best,
        },
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the public data")
    parser.add_argument("--bias", type=Path, required=True, help="the demo's")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the runs")
    options = parser.parse_args()
    choose(options.data, options.bias, options.out)


if __name__ == "__main__":
    main()
