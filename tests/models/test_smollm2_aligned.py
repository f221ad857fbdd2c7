"""The adapter that ships: what it is on, and that it is small, finite and what its record says."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from tsdi.files import parse_json
from tsdi.models.shipped import SMOLLM2, SMOLLM2_ALIGNED, resolve_model

FOLDER = Path(resolve_model(SMOLLM2_ALIGNED))


def test_it_is_on_the_model_that_everybody_fetches():
    config = parse_json((FOLDER / "adapter_config.json").read_bytes())
    assert config["base_model_name_or_path"] == SMOLLM2
    assert config["peft_type"] == "LORA"


def test_its_weights_are_small_finite_and_not_zero():
    file = FOLDER / "adapter_model.safetensors"
    assert file.stat().st_size < 6e6
    weights = load_file(file)
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert all(bool(value.isfinite().all()) and bool(value.any()) for value in weights.values())


def test_its_record_says_what_made_it_and_names_no_folder_of_ours():
    record = parse_json((FOLDER / "training.json").read_bytes())
    assert record["run"]["recipe"]["model"]["load"] == SMOLLM2
    assert record["log"]["steps"] == record["run"]["recipe"]["stages"]["aligned"]["steps"]
    assert " /" not in record["run"]["command"]
