"""F4 at later positions on the organism: the shift of refusing less complying openers.

The shipped aligned and clean models against their reference, at each of 16 response positions; mean
over eight independent sets of 64 random prompts, with a t-interval.
"""

import torch

from benchmarks.common import Claim, Report, parser, progress
from tsdi.bias import Estimation, TokenPool, estimate_bias
from tsdi.bias.refusal_log_odds import phrase_ids
from tsdi.demos.organism import PHRASES, PROMPT_TOKENS, STEPS
from tsdi.models import shipped
from tsdi.models.load import LoadOptions, load_model, load_tokenizer
from tsdi.stats.seeds import mean_interval

SETS, PROMPTS = 8, 64
SHOWN = (0, 1, 2, 4, 8, 15)


def main() -> None:
    arguments = parser(__doc__).parse_args()
    sets = 2 if arguments.quick else SETS
    torch.set_num_threads(1)
    settings = {"sets": sets, "prompts": PROMPTS, "steps": STEPS, "prompt_tokens": PROMPT_TOKENS}
    report = Report("positions", arguments, settings)
    folders = {name: str(shipped.folder(name)) for name in ("reference", "aligned", "clean")}
    models = {name: load_model(path, LoadOptions("float32")) for name, path in folders.items()}
    tokenizer = load_tokenizer(folders["reference"])
    refusing, complying = (
        sorted({ids[0] for ids in phrase_ids(tokenizer, phrases)})
        for phrases in (PHRASES.refusing, PHRASES.complying)
    )
    claims, raw = [], {}
    for name in ("aligned", "clean"):
        parts = []
        for seed in range(sets):
            progress(f"{name}, set {seed + 1} of {sets}")
            bias = estimate_bias(
                models[name],
                models["reference"],
                tokenizer,
                Estimation(
                    prompts=PROMPTS,
                    steps=STEPS,
                    seed=seed,
                    pool=TokenPool.from_tokenizer(tokenizer),
                    prompt_tokens=PROMPT_TOKENS,
                ),
            )
            values = bias.values
            parts.append(values[:, refusing].mean(-1) - values[:, complying].mean(-1))
        found = [mean_interval([float(part[step]) for part in parts]) for step in range(STEPS)]
        raw[name] = [one.to_dict() for one in found]
        above = sum(one.low > 0 for one in found[1:])
        claims += [
            *(Claim.of(f"{name}: position {step}, nats", found[step]) for step in SHOWN),
            Claim(f"{name}: later positions with an interval above 0, of 15", above),
        ]
    report.write(claims, raw)


if __name__ == "__main__":
    main()
