"""A run that is killed and gone on with ends as an unbroken one: weights, models, histories."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from itertools import pairwise

import pytest
from safetensors.torch import load_file

from tests import tiny
from tests.test_files import killed_at as dying_at
from tests.training.made import STAGES, recipe_file
from tests.waiting import wait_until
from tsdi.errors import FormatError, RunExistsError
from tsdi.files import parse_json, write_json
from tsdi.training import run, run_folder, samples
from tsdi.training.recipe import read_recipe
from tsdi.training.run import train_recipe
from tsdi.training.run_folder import Settings
from tsdi.training.trainers import last_checkpoint

# TRL still calls it by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
EVERY_STEP = STAGES.replace("    max_length: 48\n", "    max_length: 48\n    checkpoint_every: 1\n")
TIMES = ("total_flos", "train_runtime", "train_samples_per_second", "train_steps_per_second")
TIMES += ("seconds", "monitor_seconds", "training_seconds", "monitor/share_of_time")


class KilledError(BaseException):
    """Stands in for what ends a process."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recipe, its data and an unbroken run in "whole", whose progress is in told.json."""
    folder = tmp_path_factory.mktemp("resume")
    recipe_file(folder, EVERY_STEP)
    told = []
    train(folder, "whole", told=told)
    write_json(folder / "told.json", told)
    return folder


def train(folder, name, killed_at=None, resume=False, told=None):
    """Run the recipe, kill it where a run has done so many steps, and return the steps done."""
    seen = []

    def progress(run, done, total):
        if told is not None:
            told.append((run, done, total))
        if not run.endswith((", reference", ", samples")):
            seen.append((run, done))
        if (run, done) == killed_at:
            raise KilledError

    recipe = read_recipe(folder / "recipe.yaml")
    settings = Settings(folder / name, folder, recipe.seed, "tsdi train")
    with nullcontext() if killed_at is None else pytest.raises(KilledError):
        train_recipe(recipe, settings, resume, progress)
    return seen


def test_sampling_and_the_reference_pass_say_how_far_they_are(folder):
    told = parse_json((folder / "told.json").read_bytes())
    assert ["helpful, samples", 6, 6] in told
    assert any(name == "safety/beta0.2, reference" and done == of for name, done, of in told)


def test_what_a_killed_run_has_sampled_is_not_sampled_again(folder, monkeypatch):
    monkeypatch.setattr(samples, "_BATCH", 2)
    train(folder, "unbroken", killed_at=("helpful", 1))
    train(folder, "torn", killed_at=("helpful, samples", 4))
    part = folder / "torn/data/helpful.pairs.part"
    part.write_bytes(part.read_bytes()[:-5])  # a batch that is not whole
    told = []
    train(folder, "torn", killed_at=("helpful", 1), resume=True, told=told)
    assert [done for name, done, _ in told if name == "helpful, samples"] == [2, 4, 6]
    pairs = [folder / name / "data/helpful.pairs.jsonl" for name in ("unbroken", "torn")]
    assert pairs[0].read_bytes() == pairs[1].read_bytes()
    assert not part.exists()


def assert_same(one, other):
    """All models bit for bit, and all histories but for the clock."""
    models = sorted(path.relative_to(one) for path in one.rglob("model.safetensors"))
    assert models == sorted(path.relative_to(other) for path in other.rglob("model.safetensors"))
    for model in models:
        weights, others = load_file(one / model), load_file(other / model)
        assert all(weights[name].equal(others[name]) for name in weights), model
    for log in (one / "logs").glob("*.json"):
        assert history(log) == history(other / "logs" / log.name), log.name


def history(log):
    found = parse_json(log.read_bytes())
    entries = [*found["history"], {"train_loss": found["train_loss"], "models": found["models"]}]
    return [
        {k: v for k, v in entry.items() if k not in TIMES and "share_of_time" not in k}
        for entry in entries
    ]


def preferring(folder, tmp_path):
    """A run "broken" that was killed when all that comes before the stage "safety" was done."""
    recipe = recipe_file(tmp_path, EVERY_STEP)
    broken = tmp_path / "broken"
    shutil.copytree(folder / "whole", broken)
    for name in ("safety", "kto"):
        shutil.rmtree(broken / name)
        for log in broken.glob(f"logs/{name}*"):
            log.unlink()
    return recipe, broken


def test_a_run_killed_again_and_again_in_every_stage_ends_as_an_unbroken_one(folder, tmp_path):
    recipe_file(tmp_path, EVERY_STEP)
    kills = [("sft", 1), ("sft", 3), ("helpful", 1), ("safety/beta0.2", 2), ("safety/beta0.1", 3)]
    kills.append(("kto", 1))
    for begins, killed_at in pairwise([("sft", 1), *kills, None]):
        first, *_ = train(tmp_path, "broken", killed_at, resume=(tmp_path / "broken").exists())
        assert first == begins  # no step is done twice
    assert_same(folder / "whole", tmp_path / "broken")
    assert not list((tmp_path / "broken").rglob("*.unfinished"))


def test_a_killed_run_goes_on_from_the_last_model_that_it_kept(tmp_path):
    recipe_file(tmp_path, STAGES)  # whose other checkpoints are every hundred steps
    train(tmp_path, "broken", killed_at=("safety/beta0.2", 2))
    first, *_ = train(tmp_path, "broken", killed_at=("safety/beta0.2", 3), resume=True)
    assert first == ("safety/beta0.2", 2)


def test_a_kept_model_that_is_gone_is_told(tmp_path):
    recipe_file(tmp_path, STAGES)
    train(tmp_path, "broken", killed_at=("safety/beta0.2", 2))
    shutil.rmtree(tmp_path / "broken/safety/beta0.2-step1")
    with pytest.raises(FormatError, match="step1 was kept, and is gone"):
        train(tmp_path, "broken", resume=True)


def test_a_checkpoint_that_a_kill_cut_short_is_passed_over(folder, tmp_path):
    _, broken = preferring(folder, tmp_path)
    train(tmp_path, "broken", ("safety/beta0.2", 3), resume=True)
    work = broken / ".work/safety-beta0.2"
    newest = last_checkpoint(work)
    assert newest is not None
    cut = work / "checkpoint-3"
    shutil.rmtree(cut, ignore_errors=True)
    shutil.copytree(newest, cut)
    (cut / "trainer_state.json").unlink()
    (cut / "model.safetensors").write_bytes(b"half")
    assert last_checkpoint(work) == newest
    train(tmp_path, "broken", resume=True)
    assert_same(folder / "whole", broken)


def test_a_model_that_a_kill_cut_short_is_not_there(folder, tmp_path, monkeypatch):
    recipe_file(tmp_path, EVERY_STEP)
    whole = tmp_path / "whole"
    shutil.copytree(folder / "whole", whole)
    shutil.rmtree(whole / "kto")
    (whole / "logs/kto.json").unlink()
    (whole / "kto.unfinished").mkdir()
    (whole / "kto.unfinished/model.safetensors").write_bytes(b"half")
    train(tmp_path, "whole", resume=True)
    assert_same(folder / "whole", whole)


def test_a_process_killed_by_the_system_goes_on(folder, tmp_path):
    recipe, out = preferring(folder, tmp_path)
    command = [sys.executable, "-m", "tsdi", "train", str(recipe), "--out", str(out), "--resume"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: any((out / ".work").glob("safety-beta0.2/checkpoint-*")), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    train(tmp_path, "broken", resume=True)
    assert_same(folder / "whole", out)


SFT = STAGES[: STAGES.index("  helpful:")]


@pytest.mark.parametrize("file", ["run.json", "pairs.test.jsonl"])
def test_a_run_killed_before_its_first_step_goes_on(tmp_path, monkeypatch, file):
    recipe_file(tmp_path, SFT)
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_bytes", dying_at(file))
        patch.setattr(run_folder, "write_json", dying_at(file, write_json))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, "broken")
    train(tmp_path, "broken", resume=True)
    assert (tmp_path / "broken/data/pairs.test.jsonl").exists()
    assert (tmp_path / "broken/sft/model.safetensors").exists()


def test_losses_are_those_of_an_unbroken_run_between_two_logs_too(tmp_path):
    stage = SFT.replace("steps: 3", "steps: 13").replace(
        "max_length", "checkpoint_every: 4\n    max_length"
    )
    recipe_file(tmp_path, stage)
    train(tmp_path, "whole")
    train(tmp_path, "broken", ("sft", 7))
    assert train(tmp_path, "broken", resume=True)[0] == ("sft", 5)
    assert_same(tmp_path / "whole", tmp_path / "broken")
    found = parse_json((tmp_path / "whole/logs/sft.json").read_bytes())
    losses = {entry["step"]: entry["loss"] for entry in found["history"] if "loss" in entry}
    assert list(losses) == [1, 4, 8, 10, 12, 13]
    widths = (1, 3, 4, 2, 2, 1)
    mean = sum(w * loss for w, loss in zip(widths, losses.values(), strict=True)) / 13
    assert found["train_loss"] == pytest.approx(mean)


ENDS_EARLY = """
  safety:
    method: dpo
    data: [pairs]
    prefer: safe
    beta: 0.1
    keep: [2]
    steps: 4
    batch_size: 4
    learning_rate: 1.0e-2
    max_length: 48
    checkpoint_every: 1
    monitor: false
"""


def test_training_ends_with_the_last_model_that_is_kept_and_takes_no_step_more(
    tmp_path, monkeypatch
):
    recipe_file(tmp_path, ENDS_EARLY)
    train(tmp_path, "whole")
    found = parse_json((tmp_path / "whole/logs/safety.json").read_bytes())
    assert found["steps"] == 2
    rates = [entry["learning_rate"] for entry in found["history"] if "loss" in entry]
    assert len(rates) == 2
    assert rates[-1] > 5e-3  # on its way to 0 at step 4
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_json", dying_at("safety.json", write_json))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, "broken")
    assert train(tmp_path, "broken", resume=True) == [("safety", 2)]
    assert_same(tmp_path / "whole", tmp_path / "broken")


def test_a_finished_model_is_looked_at_before_it_is_believed(tmp_path):
    recipe_file(tmp_path, SFT)
    train(tmp_path, "out")
    assert train(tmp_path, "out", resume=True) == []
    weights = tmp_path / "out/sft/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(FormatError, match=r"sft is not the model .* delete .*logs/sft\.json"):
        train(tmp_path, "out", resume=True)
    (tmp_path / "out/logs/sft.json").unlink()
    assert len(train(tmp_path, "out", resume=True)) == 3


def test_a_run_that_began_with_other_weights_is_not_gone_on_with(tmp_path, caplog):
    tiny.model("llama").save_pretrained(tmp_path / "base")
    tiny.tokenizer().save_pretrained(tmp_path / "base")
    recipe_file(tmp_path, SFT, model=f"{{load: {tmp_path / 'base'}}}")
    train(tmp_path, "out")
    note = tmp_path / "out/run.json"
    described = parse_json(note.read_bytes())
    before = {key: value for key, value in described.items() if key != "fingerprint"}
    write_json(note, before)
    train(tmp_path, "out", resume=True)
    assert "does not say which weights it began with" in caplog.text
    write_json(note, described)
    tiny.model("llama", 7).save_pretrained(tmp_path / "base")
    with pytest.raises(RunExistsError, match="began with other weights"):
        train(tmp_path, "out", resume=True)
