"""A run is not gone on with once other weights are in the model's folder."""

import json
import shutil

import pytest

from tests import tiny
from tests.cli.conftest import estimate, tsdi
from tests.cli.test_bad_input import _refused
from tsdi.bias import Estimation, TokenPool, estimate_bias
from tsdi.models.load import LoadOptions, load_tokenizer
from tsdi.models.sides import load_pair

CHANGED = "the model's folder holds other weights or settings now"


@pytest.fixture
def pair(models, tmp_path):
    for name in ("aligned", "reference"):
        shutil.copytree(models / name, tmp_path / name)
    (tmp_path / "prompts.txt").write_text("mill\nbread\nwater\n")
    return tmp_path


@pytest.fixture
def begun(pair):
    """A command, and a run of it that was killed after its first answer."""
    command = ["generate", pair / "aligned", "--prompts", pair / "prompts.txt"]
    command += ["--out", pair / "run", "--batch-size", 1, "--max-new-tokens", 2]
    assert tsdi(*command).exit_code == 0
    answers = pair / "run/responses.jsonl"
    answers.write_text(answers.read_text().partition("\n")[0] + "\n")
    return [*command, "--resume"]


@pytest.mark.parametrize("file", ["model.safetensors", "generation_config.json"])
def test_answers_of_two_models_are_not_mixed(begun, pair, file):
    tiny.model("llama", 7).save_pretrained(pair / "other")
    (pair / "other/generation_config.json").write_text('{"do_sample": true}')
    shutil.copy(pair / "other" / file, pair / "aligned")
    before = (pair / "run/responses.jsonl").read_bytes()
    _refused(tsdi(*begun), CHANGED, "another --out")
    assert (pair / "run/responses.jsonl").read_bytes() == before


def test_what_lies_beside_the_weights_changes_nothing(begun, pair):
    (pair / "aligned/results.json").write_text("{}")
    result = tsdi(*begun)
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_run_from_before_goes_on_with_a_note_if_nothing_else_differs(begun, pair):
    note = pair / "run/run.json"
    run = json.loads(note.read_text())
    del run["provenance"]["fingerprint"]
    note.write_text(json.dumps(run))
    _refused(tsdi(*begun, "--dtype", "bfloat16"), "dtype was 'torch.float32'")
    result = tsdi(*begun)
    assert result.exit_code == 0, result.stderr
    assert "do not say which weights made them" in " ".join(result.stderr.split())


@pytest.mark.parametrize("free", [0, 2**40])
def test_an_estimate_is_not_of_two_references(pair, monkeypatch, free):
    monkeypatch.setattr("tsdi.models.sides._free_memory", lambda _: free)
    names = str(pair / "aligned"), str(pair / "reference")
    tokenizer = load_tokenizer(names[0])
    pool = TokenPool.from_name("neutral", tokenizer)
    (pair / "out").mkdir()
    settings = Estimation(prompts=32, steps=3, prompt_tokens=8, pool=pool)
    sides = load_pair(*names, LoadOptions())
    estimate_bias(*sides, tokenizer, settings, checkpoints=pair / "out")
    kept = {file: file.read_bytes() for file in (pair / "out").iterdir()}
    assert len(kept) == 2
    tiny.model("llama", 7).save_pretrained(pair / "reference")
    result = tsdi(*estimate(pair, pair / "out", "--resume"))
    assert result.exit_code == 2
    said = result.stderr.strip().splitlines()[-1]
    assert "partial-reference" in said
    assert "has changed since" in said
    assert {file: file.read_bytes() for file in (pair / "out").iterdir()} == kept
