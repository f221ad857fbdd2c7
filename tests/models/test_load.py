"""Loading models by name: what cannot be used is refused with one line that says why."""

import json

import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForImageTextToText,
    BertConfig,
    BertModel,
    BlipConfig,
    BlipForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from tests import tiny
from tests.tiny import refused
from tsdi.bias import Estimation, estimate_bias
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import UsageError
from tsdi.models import load as models
from tsdi.models import sides
from tsdi.models.compatibility import (
    check_same_tokenizer,
)
from tsdi.models.load import LoadOptions, adapter_base, load_model, load_tokenizer
from tsdi.models.sides import Side, as_side, load_pair, same_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("llama")
    tiny.model().save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    return path


class TestLoading:
    def test_a_saved_model(self, folder):
        model = load_model(str(folder))
        assert not model.training
        ids = tiny.ids()
        assert torch.equal(tiny.logits(model, ids, 3), tiny.logits(tiny.model(), ids, 3))

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    def test_in_another_precision(self, folder, dtype):
        assert load_model(str(folder), LoadOptions(dtype=dtype)).dtype == getattr(torch, dtype)

    def test_a_saved_tokenizer(self, folder):
        check_same_tokenizer(load_tokenizer(str(folder)), tiny.tokenizer())


class TestWhatCannotBeLoaded:
    @pytest.mark.parametrize("name", ["no-such-folder", "no-such-org/no-such-model", "a b/c"])
    def test_no_such_folder(self, name):
        refused(lambda: load_model(name), name, "no such folder")
        refused(lambda: load_tokenizer(name), name, "no such folder")

    def test_a_folder_without_a_model(self, tmp_path):
        refused(lambda: load_model(str(tmp_path)), str(tmp_path), "save_pretrained")
        refused(lambda: load_tokenizer(str(tmp_path)), str(tmp_path))

    def test_a_folder_of_a_model_without_weights(self, folder, tmp_path):
        (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
        refused(lambda: load_model(str(tmp_path)), str(tmp_path))

    @pytest.mark.parametrize(
        ("made", "kind"),
        [
            (
                lambda: T5ForConditionalGeneration(
                    T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
                ),
                "t5",
            ),
            (
                lambda: BertModel(
                    BertConfig(
                        vocab_size=32,
                        hidden_size=8,
                        num_hidden_layers=1,
                        num_attention_heads=2,
                        intermediate_size=8,
                    )
                ),
                "bert",
            ),
        ],
        ids=["t5", "bert"],
    )
    def test_a_model_that_is_not_causal(self, tmp_path, made, kind):
        made().save_pretrained(tmp_path)
        refused(lambda: load_model(str(tmp_path)), f"is a {kind} model, not a causal")

    @pytest.mark.parametrize("kept", [0, 100, -8])
    def test_truncated_weights(self, folder, tmp_path, kept):
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).write_bytes((folder / name).read_bytes())
        weights = tmp_path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:kept])
        refused(lambda: load_model(str(tmp_path)), str(tmp_path))

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": "no-such-type"}'])
    def test_a_damaged_config(self, folder, tmp_path, text):
        (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
        (tmp_path / "config.json").write_text(text)
        refused(lambda: load_model(str(tmp_path)), str(tmp_path))

    def test_a_file_instead_of_a_folder(self, folder):
        refused(lambda: load_model(str(folder / "config.json")), "config.json")

    def test_a_model_that_does_not_fit(self, folder, monkeypatch):
        def full(*_, **__):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", full)
        refused(lambda: load_model(str(folder)), "out of memory", "--device-map auto")

    def test_an_unknown_precision(self, folder):
        options = LoadOptions(dtype="float8")
        refused(lambda: load_model(str(folder), options), "'float8'", "bfloat16", kind=UsageError)


class TestPairs:
    def test_both_are_loaded_and_named(self, folder):
        pair = load_pair(str(folder), str(folder), LoadOptions())
        assert [(side.name, side.loaded) for side in pair] == [(str(folder), True)] * 2
        with pair[0].open() as model, pair[0].open() as again:
            assert model is again

    def test_one_at_a_time_loads_when_opened(self, folder, monkeypatch):
        loads = []
        load = models.load_model
        monkeypatch.setattr(sides, "load_model", lambda *a: loads.append(a[0]) or load(*a))
        aligned, reference = load_pair(*[str(folder)] * 2, LoadOptions(), one_at_a_time=True)
        assert [aligned.loaded, reference.loaded, loads] == [False, False, []]
        with aligned.open() as model:
            assert model.config.model_type == "llama"
        assert loads == [str(folder)]

    @pytest.mark.parametrize(("times", "loaded"), [(1.1, False), (1.3, True)])
    def test_both_are_held_only_where_there_is_room(
        self, folder, monkeypatch, caplog, times, loaded
    ):
        caplog.set_level("INFO", logger="tsdi")
        weights = sum(one.nbytes for one in load_model(str(folder)).parameters())
        monkeypatch.setattr(sides, "_free_memory", lambda _: times * weights)
        pair = load_pair(*[str(folder)] * 2, LoadOptions())
        assert [side.loaded for side in pair] == [loaded] * 2
        assert ("loaded in turn" in caplog.text) is not loaded

    def test_free_memory_is_this_machines(self, folder):
        assert 2**24 < sides._free_memory(load_model(str(folder))) < 2**50

    def test_a_model_in_memory_is_a_side(self, folder):
        side = as_side(load_model(str(folder)))
        assert (side.name, side.loaded) == (str(folder), True)
        assert as_side(side) is side
        assert as_side(tiny.model()).name == "LlamaForCausalLM"
        assert isinstance(side, Side)


class TestAdapterFolders:
    def test_a_model_is_none(self, folder):
        assert adapter_base(str(folder)) is None
        refused(lambda: adapter_base("no-such-org/no-such-model"), "no such folder")

    def test_an_adapter_names_its_base(self, folder, tmp_path):
        config = {"base_model_name_or_path": str(folder), "peft_type": "LORA"}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        assert adapter_base(str(tmp_path)) == str(folder)

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "{}", '{"base_model_name_or_path": null}', "\xff"]
    )
    def test_a_damaged_adapter_is_refused(self, tmp_path, text):
        (tmp_path / "adapter_config.json").write_text(text, encoding="latin-1")
        refused(lambda: adapter_base(str(tmp_path)), str(tmp_path))

    def test_names_of_one_folder(self, folder):
        assert same_model(str(folder), f"{folder}/../{folder.name}/")
        assert same_model("org/base", "org/base")
        assert not same_model("org/base", "org/other")
        assert not same_model(str(folder), str(folder.parent))


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("You are trying to access a gated repo.\nMake sure to ...", "hf auth login"),
        ("Please pass the argument `trust_remote_code=True`", "--trust-remote-code"),
        ("nothing special", "Give a folder"),
    ],
)
def test_the_remedy_fits_the_reason(folder, monkeypatch, reason, remedy):
    def fail(*_args, **_kwargs):
        raise OSError(reason)

    monkeypatch.setattr(models.AutoConfig, "from_pretrained", fail)
    refused(lambda: load_model(str(folder)), str(folder), reason.splitlines()[0], remedy)


TEXT = {**tiny.SMALL, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
SECTIONS = {**TEXT["rope_parameters"], "mrope_section": [2, 3, 3]}
EYE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
SEEING = {
    "llava": {
        "text_config": {"model_type": "llama", **TEXT},
        "vision_config": {"model_type": "clip_vision_model", **EYE},
        "image_token_index": 9,
    },
    "mistral3": {
        "text_config": {"model_type": "mistral", "head_dim": 16, **TEXT},
        "vision_config": {"model_type": "pixtral", "head_dim": 16, **EYE},
        "image_token_index": 9,
    },
    "qwen2_vl": {
        "text_config": {**TEXT, "rope_parameters": SECTIONS},
        "vision_config": {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2},
        "image_token_id": 9,
        "video_token_id": 10,
        "vision_start_token_id": 11,
        "vision_end_token_id": 12,
    },
    "llama4": {  # which transformers would load without its eyes, and warn of what is left over
        "text_config": {
            **TEXT,
            "head_dim": 16,
            "intermediate_size_mlp": 48,
            "num_local_experts": 2,
        },
        "vision_config": {
            **EYE,
            "vision_output_dim": 32,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
        },
        "image_token_index": 9,
    },
}


class TestModelsThatSee:
    @pytest.mark.parametrize("kind", SEEING)
    def test_their_language_side_goes_the_whole_way(self, kind, tmp_path):
        made = AutoModelForImageTextToText.from_config(CONFIG_MAPPING[kind](**SEEING[kind])).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.mul_(5 if parameter.dim() > 1 else 1)
        made.save_pretrained(tmp_path)
        tokenizer = tiny.tokenizer()
        reference = load_model(str(tmp_path))
        assert torch.equal(tiny.logits(reference, tiny.ids(), 3), tiny.logits(made, tiny.ids(), 3))
        aligned = tiny.moved(reference)
        bias = estimate_bias(
            aligned,
            reference,
            tokenizer,
            Estimation(prompts=16, steps=3, prompt_tokens=6, pool="tokenizer"),
        )
        assert bias.values.abs().max() > 0
        engine = TransformersEngine(aligned, tokenizer, bias, 1.0)
        requests = [Request.from_text(text) for text in ("the river runs past", "bread")]
        together = engine.generate(requests, Sampling(5))
        assert together == [engine.generate([one], Sampling(5))[0] for one in requests]

    def test_one_that_reads_no_text_alone(self, tmp_path):
        text = {"vocab_size": 32, **EYE}
        config = BlipConfig(text_config=text, vision_config=EYE, projection_dim=8)
        BlipForConditionalGeneration(config).save_pretrained(tmp_path)
        refused(lambda: load_model(str(tmp_path)), "is a blip model, which reads no text without")
