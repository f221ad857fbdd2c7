"""Linear merges against mergekit, whose command line is given with ``--mergekit``.

Two random Llamas, whole and in shards, in float32 and in bfloat16, are merged with weights .25, .5
and .75 (`tsdi.training.merge`) and by ``mergekit-yaml`` with ``merge_method: linear``, told to
compute in float32 as ours does.
"""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.common import Claim, Report, parser, progress, random_model, word_tokenizer
from tsdi.training.merge import merge

WEIGHTS = (0.25, 0.5, 0.75)
SIZES = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--mergekit", type=Path, required=True, help="its mergekit-yaml")
    arguments = made.parse_args()
    report = Report("merge", arguments, {"weights": WEIGHTS, "sizes": SIZES})
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for dtype in ("float32", "bfloat16"):
            for size in ("5GB", "100KB"):
                folders = save_pair(Path(scratch) / f"{dtype}-{size}", dtype, size)
                for weight in WEIGHTS:
                    progress(f"{dtype}, shards of {size}, weight {weight}")
                    rows.append(compare(folders, weight, dtype, size, arguments.mergekit))
    claims = [
        Claim(
            "float32 merges: largest difference from mergekit's",
            max(row["difference"] for row in rows if row["dtype"] == "float32"),
            high=0.0,
        ),
        Claim(
            "bfloat16 models, sums in float32: largest difference",
            max(row["difference"] for row in rows if row["dtype"] == "bfloat16"),
            high=0.0,
        ),
    ]
    report.write(claims, {"merges": rows, "mergekit": version(arguments.mergekit)})


def save_pair(folder: Path, dtype: str, size: str) -> tuple[Path, Path]:
    for seed, name in enumerate(("safe", "helpful")):
        model = random_model("llama", seed, SIZES).to(getattr(torch, dtype))
        model.save_pretrained(folder / name, max_shard_size=size)
        word_tokenizer(512).save_pretrained(folder / name)
    return folder / "safe", folder / "helpful"


def compare(
    folders: tuple[Path, Path], weight: float, dtype: str, size: str, mergekit: Path
) -> dict[str, Any]:
    weights = (weight, 1 - weight)
    root = folders[0].parent
    ours, theirs = root / f"ours-{weight}", root / f"theirs-{weight}"
    merge(list(zip(folders, weights, strict=True)), ours)
    settings = {
        "merge_method": "linear",
        "dtype": "float32",
        "out_dtype": dtype,
        "models": [
            {"model": str(folder), "parameters": {"weight": w}}
            for folder, w in zip(folders, weights, strict=True)
        ],
    }
    config = root / f"{weight}.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    subprocess.run([mergekit, config, theirs], check=True, capture_output=True)
    mine, other = tensors(ours), tensors(theirs)
    assert mine.keys() == other.keys(), mine.keys() ^ other.keys()
    differences = [float((mine[n].double() - other[n].double()).abs().max()) for n in mine]
    equal = sum(bool(mine[n].equal(other[n])) for n in mine)
    return {
        "dtype": dtype,
        "shards": size,
        "weight": weight,
        "tensors": len(mine),
        "identical": equal,
        "difference": max(differences),
    }


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def version(mergekit: Path) -> str:
    code = "import importlib.metadata as m; print(m.version('mergekit'))"
    python = mergekit.parent / "python"
    return subprocess.run(
        [python, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
