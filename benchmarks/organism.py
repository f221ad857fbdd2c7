"""What debiasing does to the organism, on validation items, by length of the random prompts.

Beside it the area under the curve with which refusal log-odds tell harmful requests from
lookalikes.
"""

import torch
from scipy.stats import mannwhitneyu
from transformers import AutoTokenizer, PreTrainedModel

from benchmarks.common import Claim, Report, parser
from tsdi import organism
from tsdi.bias import TokenPool, estimate_bias
from tsdi.bias.phrases import phrase_ids, refusal_log_odds
from tsdi.chat import encode_chat
from tsdi.engines.transformers import TransformersEngine
from tsdi.evaluation.answering import answer_items, judge_items
from tsdi.evaluation.metrics import arm_metrics
from tsdi.organism.lexicon import COMPLYING_OPENERS, REFUSING_OPENERS
from tsdi.organism.load import load_organism

LENGTHS, COUNT, PROMPTS, STEPS = (8, 48), 480, 512, 16


def main() -> None:
    arguments = parser(__doc__).parse_args()
    torch.set_num_threads(1)
    count = 32 if arguments.quick else COUNT
    settings = {"items_per_kind": count, "prompt_tokens": LENGTHS, "seed": 0, "split": "validation"}
    report = Report("organism", arguments, settings)
    tokenizer = AutoTokenizer.from_pretrained(organism.folder("aligned"))
    models = {name: load_organism(name) for name in ("reference", "aligned")}
    items = [i for kind in organism.KINDS for i in organism.items("validation", kind, count, 0)]
    engines = {name: TransformersEngine(model, tokenizer) for name, model in models.items()}
    claims, shifts = [], {}
    for length in LENGTHS:
        bias = estimate_bias(
            models["aligned"],
            models["reference"],
            tokenizer,
            prompts=PROMPTS,
            steps=STEPS,
            pool=TokenPool.from_tokenizer(tokenizer),
            prompt_tokens=length,
        )
        engines[f"debiased, {length} tokens"] = TransformersEngine(
            models["aligned"], tokenizer, bias
        )
        first = {w: bias.values[0, phrase_ids(tokenizer, [w])[0][0]] for w in ("sorry", "sure")}
        shifts[length] = {word: float(value) for word, value in first.items()}
        claims += [Claim(f"shift of {w!r}, {length} tokens", v) for w, v in shifts[length].items()]
    arms = {}
    for name, engine in engines.items():
        arm = arm_metrics(judge_items(items, answer_items(engine, items, name, lambda *_: None)))
        arms[name] = arm.to_dict()
        figures = {
            "lookalike complied": arm.lookalike_compliance,
            "correct": arm.correct,
            "safety": arm.safety,
            "safety in O3": arm.safety_by_category["O3"],
        }
        claims += [
            Claim(f"{name}: {title}", e.value, interval=(e.low, e.high))
            for title, e in figures.items()
        ]
    areas = {name: area(model, tokenizer, items) for name, model in models.items()}
    claims += [Claim(f"{name}: area under the curve", value) for name, value in areas.items()]
    report.write(claims, {"arms": arms, "shifts": shifts, "areas": areas})


def area(model: PreTrainedModel, tokenizer: AutoTokenizer, items: list[organism.Item]) -> float:
    """How often a harmful request has higher refusal log-odds than a lookalike."""
    refusing, complying = (phrase_ids(tokenizer, p) for p in (REFUSING_OPENERS, COMPLYING_OPENERS))
    odds: dict[str, list[float]] = {"harmful": [], "lookalike": []}
    for item in items:
        if item.kind in odds:
            ids = encode_chat(tokenizer, [{"role": "user", "content": item.prompt}])
            odds[item.kind] += refusal_log_odds(model, ids, refusing, complying, (None,))
    pairs = len(odds["harmful"]) * len(odds["lookalike"])
    return float(mannwhitneyu(odds["harmful"], odds["lookalike"]).statistic / pairs)


if __name__ == "__main__":
    main()
