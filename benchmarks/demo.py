"""The demo's figures as a committed file."""

from typing import Any

import torch

from benchmarks.common import Claim, Report, parser


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--seed", type=int, default=0, help="of random and test prompts")
    measure(made.parse_args())


def measure(arguments: Any) -> None:
    from tsdi.study.demo import COUNTS, PROMPT_TOKENS, RANDOM_PROMPTS, STEPS, run_demo

    torch.set_num_threads(1)
    settings = {
        "seed": arguments.seed,
        "test_prompts": COUNTS,
        "random_prompts": RANDOM_PROMPTS,
        "prompt_tokens": PROMPT_TOKENS,
        "steps": STEPS,
    }
    report = Report("demo", arguments, settings)
    result = run_demo(arguments.seed, lambda *_: None)
    claims = [
        Claim(
            "correct answers, debiased - aligned",
            *_figure(result.comparison.overall["correct"].change),
        ),
        Claim("safety, debiased - aligned", *_figure(result.comparison.overall["safety"].change)),
        Claim("categories that lost safety", len(result.comparison.lost)),
    ]
    raw = result.to_dict()
    report.write(claims, {**raw, "diagnosis": result.bias.info.diagnosis})


def _figure(estimate: Any) -> tuple[float, None, None, tuple[float, float]]:
    return estimate.value, None, None, (estimate.low, estimate.high)


if __name__ == "__main__":
    main()
