"""The probe on a model that two processes share: what each holds is not the model."""

import subprocess
import sys
from pathlib import Path

TOLD = "the same"
SCRIPT = f"""
import copy

import torch
from torch import distributed
from torch.distributed import fsdp
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from tests import tiny
from tsdi.bias.accumulate import group_means
from tsdi.training.monitor_log import MonitorSettings
from tsdi.training.probe import Probe, undisturbed

distributed.init_process_group("gloo")
probe = Probe(tiny.tokenizer(), MonitorSettings(prompts=8, max_new_tokens=3))


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
distributed.barrier()
if not distributed.get_rank():
    print("{TOLD}")
distributed.destroy_process_group()
"""


def test_a_model_sharded_by_fsdp_is_asked_as_a_whole(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [
            sys.executable,
            *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            str(script),
        ],
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert TOLD in ran.stdout, ran.stderr
