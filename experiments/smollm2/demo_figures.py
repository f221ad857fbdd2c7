"""The figures of `tsdi demo` as a committed file, beside those of the reference, SmolLM2 itself.

`python -m experiments.smollm2.demo_figures --out FOLDER` runs the demo in FOLDER, lets SmolLM2
answer the same prompts, and writes `experiments/smollm2/demo.json`.
"""

import argparse
import platform
from pathlib import Path

from experiments import HERE

import tsdi
from tsdi.demos.smollm2 import JUDGE, QUESTION, TOKENS, EverydayResult
from tsdi.engines.base import Sampling
from tsdi.evaluation.evaluate import Judging
from tsdi.files import write_json
from tsdi.models.shipped import SMOLLM2
from tsdi.runs.generate import Answering
from tsdi.suites.load import EVERYDAY

DATA = HERE / "smollm2" / "demo.json"


def measure(out: Path, seed: int) -> None:
    """Run the demo and the reference, and write the file."""
    found = tsdi.demo(out, seed)
    assert isinstance(found, EverydayResult), "SmolLM2 cannot be had here"
    reference = tsdi.evaluate(
        SMOLLM2,
        EVERYDAY,
        out / "reference",
        answering=Answering(sampling=Sampling(max_new_tokens=TOKENS), batch_size=32),
        judging=Judging(JUDGE),
        resume=True,
    )
    (asked,) = (one for one in found.answers if one.id == QUESTION)
    write_json(
        DATA,
        {
            "command": f"python -m experiments.smollm2.demo_figures --out FOLDER --seed {seed}",
            "versions": {"python": platform.python_version(), **found.bias.info.versions},
            "bias_sha256": found.bias.sha256,
            "question": {"prompt": asked.prompt, **asked.answers},
            "arms": {
                "reference": reference.figures.to_dict(),
                **{name: arm.figures.to_dict() for name, arm in found.arms.items()},
            },
            "kinds": {one.category: one.kind for one in found.answers},
            "comparison": found.comparison.to_dict(),
        },
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder of the demo")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    measure(options.out, options.seed)


if __name__ == "__main__":
    main()
