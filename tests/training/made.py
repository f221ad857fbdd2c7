"""Made-up preference pairs, and a recipe that trains a tiny model on them in seconds."""

import json
from pathlib import Path

_WORDS = ("kettle", "window", "bicycle", "ladder", "garden", "candle", "river", "bread")
PAIRS = [
    {
        "prompt": f"What is a {word} good for, number {number}?",
        "chosen": f"A {word} is useful at home, {number} times a day.",
        "rejected": f"No idea, {number}.",
    }
    for word in _WORDS
    for number in range(3)
]
MODEL = (
    "{new: {hidden_size: 16, intermediate_size: 32, layers: 1, heads: 2, context: 96,"
    " vocabulary: 300}}"
)
STAGES = """
  sft:
    method: sft
    data: [pairs]
    steps: 3
    batch_size: 4
    learning_rate: 1.0e-2
    max_length: 48
  helpful:
    method: dpo
    from: sft
    data: [pairs]
    prefer: data
    samples: {prompts: 6, max_new_tokens: 4}
    beta: 0.1
    sft_weight: 1.0
    steps: 2
    batch_size: 4
    learning_rate: 1.0e-2
    max_length: 48
    monitor: false
  safety:
    method: dpo
    from: helpful
    data: [pairs]
    prefer: safe
    beta: [0.2, 0.1]
    keep: [1, 3]
    steps: 3
    batch_size: 4
    learning_rate: 1.0e-2
    max_length: 48
    monitor: {every: 2, prompts: 8, max_new_tokens: 2}
  kto:
    method: kto
    from: helpful
    data: [pairs]
    prefer: safe
    beta: 0.1
    steps: 2
    batch_size: 4
    learning_rate: 1.0e-2
    max_length: 48
    monitor: {every: 2, prompts: 8, max_new_tokens: 2}
"""


def recipe_file(
    folder: Path,
    stages: str,
    pairs: list[dict[str, str]] = PAIRS,
    model: str = MODEL,
    hold_out: str = "{test: 0.2}",
) -> Path:
    """A recipe and its data, written into a folder."""
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"name: made\nseed: 5\nmodel: {model}\nhold_out: {hold_out}\n"
        "data: {pairs: {path: pairs.jsonl, kind: harmless}}\n"
        f"stages:\n{stages.lstrip(chr(10))}"
    )
    return recipe
