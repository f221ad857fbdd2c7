"""The demo's figures as a committed file."""

import torch

from benchmarks.common import Claim, Report, parser
from tsdi.demos.organism import COUNTS, PROMPT_TOKENS, RANDOM_PROMPTS, STEPS, run_demo


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--seed", type=int, default=0, help="of random and test prompts")
    arguments = made.parse_args()
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
    overall = result.comparison.overall
    claims = [
        Claim.of("correct answers, debiased - aligned", overall["correct"].change),
        Claim.of("safety, debiased - aligned", overall["safety"].change),
        Claim("categories that lost safety", len(result.comparison.lost)),
    ]
    report.write(claims, {**result.to_dict(), "diagnosis": result.bias.info.diagnosis})


if __name__ == "__main__":
    main()
