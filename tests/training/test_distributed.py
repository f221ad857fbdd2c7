"""Two processes that train together: one writes, and the models are those of one process."""

import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from tests.cli.conftest import tsdi
from tests.training.made import PAIRS, STAGES, recipe_file
from tsdi.files import parse_json

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
NO_SAMPLES = STAGES[: STAGES.index("  helpful:")] + STAGES[STAGES.index("  safety:") :].replace(
    "from: helpful", "from: sft"
)


def together(recipe, out):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [sys.executable, *launch, "-m", "tsdi", "train", str(recipe), "--out", str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_two_processes_train_what_one_does(tmp_path):
    recipe = recipe_file(tmp_path, NO_SAMPLES)
    result = together(recipe, tmp_path / "two")
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.count("Training runs") == 1
    assert tsdi("train", recipe, "--out", tmp_path / "one").exit_code == 0
    for name in ("sft", "safety/beta0.2-step3", "safety/beta0.1-step3", "kto"):
        one = load_file(tmp_path / "one" / name / "model.safetensors")
        two = load_file(tmp_path / "two" / name / "model.safetensors")
        start = load_file(tmp_path / "one/start/model.safetensors")
        moved = max(float((one[key] - start[key]).abs().max()) for key in one)
        apart = max(float((one[key] - two[key]).abs().max()) for key in one)
        assert apart < 0.01 * moved, (name, apart, moved)
    for log in ("sft", "safety-beta0.1", "kto"):
        counts = [
            parse_json((tmp_path / n / f"logs/{log}.json").read_bytes())["steps"]
            for n in ("one", "two")
        ]
        assert counts[0] == counts[1]


def test_bad_input_ends_both_processes_with_one_line(tmp_path):
    recipe = recipe_file(tmp_path, NO_SAMPLES, pairs=[PAIRS[0] | {"chosen": ""}])
    result = together(recipe, tmp_path / "two")
    assert result.returncode != 0
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    assert "line 1: column 'chosen' is empty" in line
