"""Puts a trained adapter where tsdi ships it: in float16, on the base that everybody has.

`python -m experiments.smollm2.ship --trained smollm2/adapter` takes the folder that `tsdi train
experiments/smollm2/adapter.yaml` wrote, and writes `src/tsdi/models/smollm2_aligned`, with the
recipe, its data's hash, versions and losses in `training.json`.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tsdi.files import parse_json, write_json
from tsdi.models.shipped import SMOLLM2, SMOLLM2_ALIGNED, resolve_model

RUN = "aligned"
COMMAND = "tsdi train experiments/smollm2/adapter.yaml --data smollm2 --out smollm2/adapter"


def ship(trained: Path, out: Path) -> None:
    """Write the adapter of a training folder into another folder."""
    adapter = trained / RUN / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": SMOLLM2, "revision": None}
    config["target_modules"] = sorted(config["target_modules"])
    weights = load_file(adapter / "adapter_model.safetensors")
    out.mkdir(parents=True, exist_ok=True)
    halves = {name: value.to(torch.float16).contiguous() for name, value in weights.items()}
    save_file(halves, out / "adapter_model.safetensors", {"format": "pt"})
    write_json(out / "adapter_config.json", config)
    run, log = (
        parse_json((trained / file).read_bytes()) for file in ("run.json", f"logs/{RUN}.json")
    )
    run["command"] = COMMAND  # without the folders of whoever typed it
    write_json(out / "training.json", {"run": run, "log": log})


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trained", type=Path, required=True, help="what tsdi train wrote")
    options = parser.parse_args()
    ship(options.trained, Path(resolve_model(SMOLLM2_ALIGNED)))


if __name__ == "__main__":
    main()
