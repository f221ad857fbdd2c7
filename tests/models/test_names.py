"""A name leads to a folder, or to one commit on the hub; what can only be a folder stays here."""

import json
import shutil
from threading import Event
from types import SimpleNamespace

import httpx
import pytest
import torch
from huggingface_hub.errors import (
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from tests import tiny
from tests.tiny import refused
from tests.waiting import HANGS
from tsdi.bias import SafetyBias
from tsdi.errors import FormatError, UsageError
from tsdi.models import names
from tsdi.models.load import adapter_base, load_checked, load_model, load_tokenizer
from tsdi.models.names import Place, is_local, locate, split_revision
from tsdi.models.sides import same_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = ("config.json", "model.safetensors")


class Hub:
    """A hub that knows org/model, and counts what it is asked."""

    def __init__(self):
        self.asked = []
        self.error = None

    def model_info(self, hub_id, revision, timeout):
        assert timeout <= 10
        self.asked.append((hub_id, revision))
        if self.error is not None:
            raise self.error
        response = httpx.Response(404, request=httpx.Request("GET", "https://hub"))
        if hub_id != "org/model":
            raise RepositoryNotFoundError("404", response=response)
        if revision not in (None, "main", COMMIT):
            raise RevisionNotFoundError("404", response=response)
        return SimpleNamespace(sha=COMMIT, siblings=[SimpleNamespace(rfilename=f) for f in FILES])


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    """No test reaches the real hub, or the cache of this machine."""
    made = Hub()

    def nothing(*_args, **_options):
        raise LocalEntryNotFoundError("nothing")

    names._on_hub.cache_clear()
    monkeypatch.setattr(names, "HfApi", lambda: made)
    monkeypatch.setattr(names, "snapshot_download", nothing)
    monkeypatch.chdir(tmp_path)
    yield made
    names._on_hub.cache_clear()


@pytest.mark.parametrize(
    "name",
    [
        "./x",
        "../x",
        "/absolute/x",
        "~/x",
        "models/x/y",
        "my-private-model",
        "with space/x",
        "a..b/c",
        ".hidden",
        "there/none",
    ],
)
def test_what_can_only_be_a_folder_is_never_told_to_the_hub(hub, tmp_path, name):
    (tmp_path / "there").mkdir()
    assert is_local(name)
    for call in (locate, load_model, load_tokenizer, adapter_base):
        refused(lambda call=call: call(name), f"no such folder: {name}")
    refused(lambda: SafetyBias.from_pretrained(name), name, kind=FormatError)
    assert hub.asked == []


def test_a_relative_folder_that_is_missing_is_meant_once_and_seen_from_here(
    hub, tmp_path, monkeypatch
):
    (tmp_path / "t0").mkdir()
    for place in ("one", "two/three"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    refused(lambda: locate("../t0"), f"seen from {tmp_path}. Did you mean t0?")


def test_an_empty_name_is_not_the_current_folder(hub):
    tiny.tokenizer().save_pretrained(".")
    with pytest.raises(UsageError, match="The tokenizer is ''"):
        load_tokenizer("")
    assert hub.asked == []


@pytest.mark.parametrize("name", ["org/model", "gpt2", "org/model@v1.0", "org/model@refs/pr/1"])
def test_what_may_be_on_the_hub(name):
    assert not is_local(name)


def test_a_name_server_that_is_silent_is_not_waited_for(hub, monkeypatch):
    monkeypatch.setattr(names, "_TIMEOUT", 0.01)
    over = Event()
    monkeypatch.setattr(hub, "model_info", lambda *_, **__: over.wait(HANGS))
    refused(
        lambda: locate("org/model"), "hub cannot be reached and the cache has none (TimeoutError"
    )
    over.set()


class TestRevisions:
    def test_a_name_may_have_one(self, tmp_path):
        assert split_revision("org/model@v1") == ("org/model", "v1")
        assert split_revision("org/model") == ("org/model", None)
        (tmp_path / "run@3").mkdir()
        assert split_revision("run@3") == ("run@3", None)
        assert locate("run@3") == Place("run@3", None, frozenset())
        assert locate("run@3").vllm_arguments == {}

    @pytest.mark.parametrize("name", ["org/model", "org/model@main", f"org/model@{COMMIT}"])
    def test_it_becomes_a_commit_by_one_request(self, hub, name):
        for _ in range(3):
            assert locate(name) == Place("org/model", COMMIT, frozenset(FILES))
        assert len(hub.asked) == 1
        assert locate(name).arguments == {"revision": COMMIT}
        both = {"revision": COMMIT, "tokenizer_revision": COMMIT}
        assert locate(name).vllm_arguments == both

    def test_one_that_is_not_there(self):
        refused(lambda: locate("org/model@v9"), "org/model has no revision v9")

    def test_one_commit_under_two_names_is_one_model(self):
        assert same_model("org/model", f"org/model@{COMMIT}")
        assert not same_model("org/model", "org/other")

    def test_the_base_of_an_adapter_keeps_its_own(self, tmp_path):
        config = {"base_model_name_or_path": "org/model", "revision": "main"}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        assert adapter_base(str(tmp_path)) == "org/model@main"


class TestWithoutTheHub:
    def test_it_fails_at_once_and_says_why(self, hub):
        hub.error = OSError("Name or service not known")
        refused(lambda: load_model("org/model"), "no such folder: org/model", "service not known")
        refused(lambda: SafetyBias.from_pretrained("org/model"), "reached", kind=FormatError)

    def test_the_cache_stands_in(self, hub, monkeypatch, tmp_path):
        folder = tmp_path / "cache" / COMMIT
        tiny.model().save_pretrained(folder)
        hub.error = OSError("Name or service not known")
        monkeypatch.setattr(names, "snapshot_download", lambda *_, **__: str(folder))
        assert locate("org/model").revision == COMMIT
        assert load_model("org/model").config.model_type == "llama"

    def test_packed_weights_in_the_cache(self, monkeypatch, tmp_path):
        folder = tmp_path / "cache" / COMMIT
        tiny.model().save_pretrained(folder)
        file = folder / "model.safetensors"
        weights = {name: (x * 20).to(torch.int8) for name, x in load_file(file).items()}
        save_file(weights, file, metadata={"format": "pt"})

        class FromTheHub:
            @staticmethod
            def from_pretrained(name, revision, **options):
                assert (name, revision) == ("org/model", COMMIT)
                return LlamaForCausalLM.from_pretrained(folder, **options)

        monkeypatch.setattr(names, "snapshot_download", lambda *_, **__: str(folder))
        monkeypatch.setattr(names, "hf_hub_download", lambda _, file, **__: str(folder / file))
        refused(lambda: load_checked(FromTheHub, "org/model"), "org/model is I8", "packed")

    def test_an_unknown_name(self):
        refused(lambda: load_model("org/none"), "no such folder: org/none", "no such model")


class TestSuggestions:
    @pytest.fixture(autouse=True)
    def folders(self, tmp_path, monkeypatch):
        for name in ("models/aligned", "models/reference", "work"):
            (tmp_path / name).mkdir(parents=True)
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            ("models/alinged", "models/aligned"),
            ("modles/aligned", "models/aligned"),
            ("aligned", "models/aligned"),
        ],
    )
    def test_a_folder_that_is_nearly_called_so(self, typed, meant):
        refused(lambda: locate(typed), typed, f"Did you mean {meant}?")

    def test_a_path_from_another_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path / "work")
        refused(lambda: locate("models/aligned"), "Did you mean ../models/aligned?")

    def test_none_where_nothing_is_alike(self):
        refused(lambda: locate("xyz"), "Give a folder made by save_pretrained")


class TestWhatAFolderIs:
    @pytest.mark.parametrize(
        ("files", "words"),
        [
            (["bias_config.json", "bias.safetensors"], ["is a safety bias, not a model"]),
            (["responses.jsonl", "run.json"], ["is a run with answers"]),
            (["m.Q4_K_M.gguf"], ["GGUF files only", "Name one: here/m.Q4_K_M.gguf"]),
            (["config.json", "m.gguf"], ["GGUF files only", "here/m.gguf"]),
            (["config.json", "pytorch_model.bin"], ["pickle only (pytorch_model.bin)"]),
            (["config.json", "pytorch_model-00001-of-00002.bin"], ["pickle only"]),
            (["config.json", "training_args.bin"], ["no weights"]),
            (["config.json", "sub/model.safetensors"], ["no weights"]),
            (["a/config.json", "b/config.json"], ["It holds models: name one", "here/a"]),
            (["readme.txt"], ["holds no model"]),
        ],
    )
    def test_is_said(self, tmp_path, files, words):
        for file in files:
            place = tmp_path / "here" / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("{}")
        refused(lambda: load_model("here"), "here", *words)

    def test_a_pickled_adapter(self, tmp_path):
        tiny.model().save_pretrained(tmp_path / "base")
        (tmp_path / "adapter").mkdir()
        config = {"base_model_name_or_path": "base", "peft_type": "LORA"}
        (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
        (tmp_path / "adapter" / "adapter_model.bin").write_bytes(b"x")
        refused(lambda: load_model("adapter"), "pickle only (adapter_model.bin)")

    def test_an_adapter_whose_base_is_elsewhere(self, tmp_path):
        config = {"base_model_name_or_path": "/nowhere/base", "peft_type": "LORA"}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        for load in (load_model, load_tokenizer):
            refused(lambda load=load: load(str(tmp_path)), "is an adapter on /nowhere/base")

    def test_a_file_of_a_model(self, tmp_path):
        (tmp_path / "model.safetensors").write_bytes(b"")
        refused(lambda: load_model("model.safetensors"), "is a file", "its folder")

    def test_a_model_taken_for_a_bias(self, tmp_path):
        tiny.model().save_pretrained(tmp_path / "model")
        refused(lambda: SafetyBias.from_pretrained("model"), "is a model", kind=FormatError)
        tiny.bias().save_pretrained(tmp_path / "model" / "tsdi")
        call = lambda: SafetyBias.from_pretrained("model")  # noqa: E731
        refused(call, "Its own is model/tsdi", kind=FormatError)

    def test_a_tokenizer_alone_is_enough_for_a_tokenizer(self, tmp_path):
        tiny.tokenizer().save_pretrained(tmp_path / "words")
        assert len(load_tokenizer("words")) == len(tiny.tokenizer())


def test_hub_adapters_without_a_tokenizer_get_that_of_their_base(monkeypatch, tmp_path):
    tiny.tokenizer().save_pretrained(tmp_path / "base")
    config = {"base_model_name_or_path": "base", "peft_type": "LORA"}
    (tmp_path / "cached.json").write_text(json.dumps(config))
    files = ("adapter_config.json", "adapter_model.safetensors")
    monkeypatch.setitem(globals(), "FILES", files)
    monkeypatch.setattr(names, "hf_hub_download", lambda *_, **__: tmp_path / "cached.json")
    assert len(load_tokenizer("org/model")) == len(tiny.tokenizer())
    shutil.rmtree(tmp_path / "base")
