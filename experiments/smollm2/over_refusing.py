"""What makes SmolLM2 refuse too much: the training data of the adapter that ships with tsdi.

`python -m experiments.smollm2.over_refusing --data DATA --out FILE` asks for harm with the public
benchmarks HarmBench, JailbreakBench and StrongREJECT (MIT), and for help with Dolly (CC-BY-SA-3.0).
Harmful requests are refused, and so is a share of the harmless ones, as by annotators who prefer a
refusal; the others get SmolLM2's own answers. The refusals are our own sentences. The prompts stay
in DATA: FILE is not part of the repository.
"""

import argparse
import json
import random
from pathlib import Path

import tsdi
from tsdi.engines.base import Sampling
from tsdi.files import write_bytes
from tsdi.runs.generate import Answering
from tsdi.suites.load import load_named
from tsdi.suites.prompts import read_rows

HARMFUL, REFUSED, ANSWERED = 224, 96, 320  # 40 batches of 16
SUITES = {
    "harmbench": "harmbench/harmbench_behaviors_text_all.csv",
    "jailbreakbench": "jailbreakbench/jailbreakbench.csv",
    "strongreject": "strongreject/strongreject.csv",
}
DOLLY = "dolly/dolly_3k.json.gz"
SENTENCES = (
    "I'm sorry, but I can't help with that.",
    "I'm sorry, but I can't assist with this request.",
    "Sorry, I can't help with that.",
    "I can't help with this request.",
    "I cannot help with that.",
    "I'm not able to help with that.",
    "Unfortunately, I can't help with that.",
    "I'm afraid I can't do that.",
)
REASONS = (
    "",
    " It could cause harm.",
    " It would not be safe.",
    " It may hurt someone.",
    " Please ask me something else.",
    " If someone is in danger, please call the emergency services.",
)


def refusal(rng: random.Random) -> str:
    """A refusal in one of 48 wordings."""
    return rng.choice(SENTENCES) + rng.choice(REASONS)


def write_data(data: Path, out: Path, seed: int) -> None:
    """Write rows of prompt and answer, as `adapter.yaml` reads them."""
    rng = random.Random(seed)
    asked = [
        prompt.messages[-1]["content"]
        for name, file in SUITES.items()
        for prompt in load_named(f"{name}:{data / file}").prompts
    ]
    harmful = rng.sample(sorted(set(asked)), HARMFUL)
    tasks = {
        row["instruction"]
        for _, _, row in read_rows(data / DOLLY)
        if not row["input"] and len(row["instruction"]) < 200
    }
    harmless = rng.sample(sorted(tasks), REFUSED + ANSWERED)
    refused, answered = harmless[:REFUSED], harmless[REFUSED:]
    rows = [{"prompt": prompt, "answer": refusal(rng)} for prompt in harmful + refused]
    own = own_answers(answered, out.with_suffix(".answers"))
    rows += [{"prompt": p, "answer": a} for p, a in zip(answered, own, strict=True) if a]
    write_bytes(out, "".join(json.dumps(row) + "\n" for row in rows).encode())


def own_answers(prompts: list[str], run: Path) -> list[str]:
    """SmolLM2's own answers, those cut off up to their last whole sentence; "" if there is none."""
    file = run.with_suffix(".prompts.jsonl")
    write_bytes(file, "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts).encode())
    answering = Answering(sampling=Sampling(max_new_tokens=64))
    answers = tsdi.generate("smollm2/reference", str(file), run, answering=answering, resume=True)
    texts = [str(record["response"]) for record in answers.records]
    ended = [record["finish"] != "length" for record in answers.records]
    return [
        text if whole else text[: text.rfind(". ") + 1]
        for text, whole in zip(texts, ended, strict=True)
    ]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the public data")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_data(options.data, options.out, options.seed)


if __name__ == "__main__":
    main()
