import json

import pytest

from tsdi.bias import Estimation, estimate_bias
from tsdi.models import shipped
from tsdi.models.load import load_tokenizer
from tsdi.organism.load import load_organism
from tsdi.suites.load import load_prompts


@pytest.fixture(scope="session")
def bias(tmp_path_factory):
    """Folder of a rough bias of the organism's aligned model."""
    models = load_organism("aligned"), load_organism("reference")
    tokenizer = load_tokenizer(str(shipped.folder("aligned")))
    made = estimate_bias(
        *models, tokenizer, Estimation(prompts=64, steps=8, prompt_tokens=8, pool="tokenizer")
    )
    folder = tmp_path_factory.mktemp("bias")
    made.with_diagnosis(1.0, {"verdict": "of a test"}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def prompts(tmp_path_factory):
    """File of 96 of the organism's prompts: two of each category and as many harmless ones."""
    chosen = []
    for kind in ("harmless", "lookalike", "harmful"):
        chosen += [p for p in load_prompts("organism:test", 0).prompts if p.kind == kind][:32]
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    rows = [
        {"id": p.id, "prompt": p.messages[0]["content"], "kind": p.kind, "category": p.category}
        for p in chosen
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
