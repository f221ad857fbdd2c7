"""Saving a bias: nothing that is there already is lost, and the hub gets all that it needs."""

import os
from pathlib import Path

import huggingface_hub.hub_mixin
import pytest
import torch

from tests import tiny
from tsdi.bias import SafetyBias
from tsdi.errors import FormatError, TsdiError, UsageError

FILES = ["README.md", "bias.safetensors", "bias_config.json"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    tiny.bias().save_pretrained(tmp_path / "bias")
    return tmp_path / "bias"


def test_a_full_disk_leaves_the_old_bias(folder, monkeypatch):
    def full(_file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TsdiError, match="No space left"):
        tiny.bias().scale(2).save_pretrained(folder)
    monkeypatch.undo()
    assert torch.equal(SafetyBias.from_pretrained(folder).values, tiny.bias().values)
    assert names(folder) == FILES


def test_a_crash_between_the_two_files_is_noticed(folder, monkeypatch):
    fsync, calls = os.fsync, []

    def second_fails(file):
        calls.append(file)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        fsync(file)

    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(TsdiError, match="No space left"):
        tiny.bias().scale(2).save_pretrained(folder)
    with pytest.raises(FormatError, match="does not belong"):
        SafetyBias.from_pretrained(folder)


def test_a_model_in_the_folder_is_left_alone(tmp_path):
    tiny.model().save_pretrained(tmp_path)
    before = names(tmp_path)
    with pytest.raises(UsageError, match=r"holds a model .* folder of its own"):
        tiny.bias().save_pretrained(tmp_path)
    assert names(tmp_path) == before


def test_push_to_hub_uploads_both_files_and_a_card(monkeypatch):
    uploaded = {}

    class Hub:
        repo_id = "me/my-bias"

        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **_options):
            uploaded["repo"] = repo_id
            return self

        def upload_folder(self, *, repo_id, folder_path, **_options):
            paths = sorted(Path(folder_path).iterdir())
            uploaded["files"] = {path.name: path.read_text("latin-1") for path in paths}
            uploaded["values"] = SafetyBias.from_pretrained(folder_path).values
            return f"https://huggingface.co/{repo_id}"

    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Hub)
    assert tiny.bias().push_to_hub("me/my-bias").endswith("/me/my-bias")
    assert uploaded["repo"] == "me/my-bias"
    assert sorted(uploaded["files"]) == FILES
    assert "library_name: tsdi" in uploaded["files"]["README.md"]
    assert torch.equal(uploaded["values"], tiny.bias().values)
