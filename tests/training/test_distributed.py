"""Two processes that train together: one writes, and what each holds of a model is not the model.

They are launched once, since their imports take longer than all that they do.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.cli.conftest import tsdi
from tests.training.made import PAIRS, STAGES, recipe_file
from tsdi.files import parse_json

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
ROOT = Path(__file__).parents[2]
NO_SAMPLES = STAGES[: STAGES.index("  helpful:")] + STAGES[STAGES.index("  safety:") :].replace(
    "from: helpful", "from: sft"
)
REFUSED, ALIKE = "refused with 2", "probes are alike"
SCRIPT = f"""
import copy
import sys

import torch
from torch.distributed import barrier, destroy_process_group, fsdp, get_rank
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from tests import tiny
from tsdi.bias.accumulate import group_means
from tsdi.cli.main import run
from tsdi.training.monitor_log import MonitorSettings
from tsdi.training.probe import Probe, undisturbed


def train(folder):
    sys.argv = ["tsdi", "train", f"{{folder}}/recipe.yaml", "--out", f"{{folder}}/two"]
    try:
        run()
    except SystemExit as end:
        return end.code


def asked(model):
    with undisturbed(model) as live:
        probe.check(live)
        verdicts = probe.verdicts(live)  # first, as a forward pass can leave weights gathered
        return group_means(live, probe.run(live)), verdicts


def sharded(model, version):
    if version == 1:
        layers = ModuleWrapPolicy({{type(model.model.layers[0])}})
        cpu = torch.device("cpu")
        return fsdp.FullyShardedDataParallel(model, auto_wrap_policy=layers, device_id=cpu)
    for layer in model.model.layers:
        fsdp.fully_shard(layer)
    fsdp.fully_shard(model)
    fsdp.register_fsdp_forward_method(model, "generate")  # as transformers' trainer does
    return model


good, bad = sys.argv[1:]
print("refused with", train(bad), flush=True)
assert not train(good)

probe = Probe(tiny.tokenizer(), MonitorSettings(prompts=8, max_new_tokens=3))
whole = tiny.model(max_position_embeddings=256)
means, verdicts = asked(whole)
for version in (1, 2):
    shared = sharded(copy.deepcopy(whole), version).train()
    means_shared, verdicts_shared = asked(shared)
    assert torch.allclose(means, means_shared, rtol=1e-5, atol=1e-5), version
    assert verdicts == verdicts_shared, version
    assert shared.training, version
    ids = tiny.ids()
    shared(input_ids=ids, labels=ids).loss.backward()  # training can go on
barrier()
if not get_rank():
    print("{ALIKE}", flush=True)
destroy_process_group()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def ran(folder):
    """Two processes with a recipe that is wrong, then one that is not, then the probe."""
    for name, pairs in (("good", PAIRS), ("bad", [PAIRS[0] | {"chosen": ""}])):
        (folder / name).mkdir()
        recipe_file(folder / name, NO_SAMPLES, pairs=pairs)
    (folder / "script.py").write_text(SCRIPT)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *launch, folder / "script.py", folder / "good", folder / "bad"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_bad_input_ends_both_processes_with_one_line(ran):
    assert ran.stdout.count(REFUSED) == 2, ran.stderr[-2000:]
    (line,) = (line for line in ran.stderr.splitlines() if line.startswith("Error: "))
    assert "line 1: column 'chosen' is empty" in line


def test_two_processes_train_what_one_does(ran, folder):
    made = folder / "good"
    assert ran.stdout.count("Training runs") == 1, ran.stderr[-2000:]
    assert tsdi("train", made / "recipe.yaml", "--out", made / "one").exit_code == 0
    for name in ("sft", "safety/beta0.2-step3", "safety/beta0.1-step3", "kto"):
        one = load_file(made / "one" / name / "model.safetensors")
        two = load_file(made / "two" / name / "model.safetensors")
        start = load_file(made / "one/start/model.safetensors")
        moved = max(float((one[key] - start[key]).abs().max()) for key in one)
        apart = max(float((one[key] - two[key]).abs().max()) for key in one)
        assert apart < 0.01 * moved, (name, apart, moved)
    for log in ("sft", "safety-beta0.1", "kto"):
        counts = [
            parse_json((made / n / f"logs/{log}.json").read_bytes())["steps"]
            for n in ("one", "two")
        ]
        assert counts[0] == counts[1]


def test_a_model_sharded_by_fsdp_is_asked_as_a_whole(ran):
    """The probe on a model of which each process holds a part."""
    assert ALIKE in ran.stdout, ran.stderr[-2000:]
    assert ran.returncode == 0
