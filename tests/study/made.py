"""A study of seconds: the shipped organism's models in place of a grid's."""

import json
from pathlib import Path

from tsdi import organism
from tsdi.models import shipped

RULES = """
  - plain
  - sft
  - reference
  - tsdi
  - {rule: tsdi, name: tuned, strength: [0, 0.5]}
  - {rule: reference-openers, constant: [0, 3]}
  - {rule: dera, weight: [1.0, 0.25]}
  - {rule: tsdi, name: steps, steps: [1, 4], vary: steps}
"""
MODELS = """
  - name: step{iterations}
    path: models/seed{seed}-step{iterations}
    reference: organism/reference
    sft: organism/reference
    proxy: [organism/clean, organism/reference]
    grid: {iterations: [1, 2], seed: [0, 1]}
"""


def study_file(
    folder: Path, rules: str = RULES, models: str = MODELS, more: str = "", judge: str = "organism"
) -> Path:
    """A study of four models, made of two, on some requests of the organism's world."""
    (folder / "models").mkdir(exist_ok=True)
    for number, name in enumerate(("aligned", "clean", "clean", "aligned")):
        place = folder / "models" / f"seed{number // 2}-step{number % 2 + 1}"
        if not place.exists():
            place.symlink_to(shipped.folder(name))
    for split, seed in (("validation", 1), ("test", 0)):
        rows = [
            {"prompt": item.prompt, "kind": kind, "category": item.category}
            for kind, count in (("harmless", 8), ("lookalike", 8), ("harmful", 16))
            for item in organism.items(split, kind, count, seed)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    file = folder / "study.yaml"
    file.write_text(
        f"""title: A study of seconds
models:{models}
prompts:
  validation: [{{load: validation.jsonl}}]
  test: [{{load: test.jsonl}}]
judge: {{name: {judge}}}
generation: {{max_new_tokens: 16, batch_size: 32, dtype: float32, threads: 1}}
estimation: {{prompts: 16, steps: 4, prompt_tokens: 8, pool: tokenizer,
  refusing: [sorry, "no"], complying: [sure, "yes"]}}
rules:{rules}
attacks: [repeat]
ks: [1, 2]
{more}
"""
    )
    return file
