"""What a condition does to the answers of the shipped organisms, beside constant strengths.

Bias and condition as `tsdi estimate` and `tsdi condition` make them, on prompts of
`organism:validation`; answers to `organism:test`, judged by what the invented world knows. One pair
of models, settings not tuned.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch

import tsdi
from benchmarks.common import Claim, Report, parser, progress
from tsdi.bias import Estimation
from tsdi.condition import Fitting
from tsdi.engines.base import Sampling
from tsdi.files import to_lines, write_bytes
from tsdi.runs.generate import Answering
from tsdi.suites.load import load_prompts

ALIGNED, REFERENCE = "organism/aligned", "organism/reference"
LABELS, ASKED = "organism:validation", "organism:test"
TOKENS, BATCH = 24, 128
LEFT_OUT = "O3"
CONSTANTS = (0.0, 1.0, 2.0)
RANGES = ((0.0, 1.0), (-1.0, 2.0))


def main() -> None:
    arguments = parser(__doc__).parse_args()
    torch.set_num_threads(1)
    settings = {"labels": LABELS, "asked": ASKED, "new_tokens": TOKENS}
    report = Report("condition", arguments, settings)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (bias, strength) in _arms(Path(folder)).items():
            progress(name)
            how = Answering(strength, Sampling(max_new_tokens=TOKENS), batch_size=BATCH)
            run = Path(folder) / f"run {name}"
            figures = tsdi.evaluate(ALIGNED, ASKED, run, bias=str(bias), answering=how).figures
            found[name] = figures.to_dict()
    claims = [Claim(f"{name}: safe", one["safety"]["value"]) for name, one in found.items()]
    report.write(claims, {"arms": found})


def _arms(folder: Path) -> dict[str, tuple[Path, float | None]]:
    """Bias and strength of each arm by its name; None leaves the strength to the condition."""
    bias = folder / "bias"
    tsdi.estimate(ALIGNED, REFERENCE, bias, Estimation(pool="tokenizer", prompt_tokens=8))
    fewer = folder / "fewer.jsonl"
    kept = (one for one in load_prompts(LABELS, 0).prompts if one.category != LEFT_OUT)
    rows = (
        {"prompt": one.messages[-1]["content"], "kind": one.kind, "category": one.category}
        for one in kept
    )
    write_bytes(fewer, to_lines(rows))
    arms: dict[str, tuple[Path, float | None]] = {f"{one:g}": (bias, one) for one in CONSTANTS}
    for name, labels, (low, high) in (
        *((f"{low:g} to {high:g}", LABELS, (low, high)) for low, high in RANGES),
        (f"{RANGES[-1][0]:g} to {RANGES[-1][1]:g}, without {LEFT_OUT}", str(fewer), RANGES[-1]),
    ):
        out = folder / name
        tsdi.add_condition(ALIGNED, str(bias), labels, out, Fitting(low=low, high=high))
        arms[name] = out, None
    return arms


if __name__ == "__main__":
    main()
