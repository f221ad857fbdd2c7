"""Weights that do not fit are named, not replaced by random ones; weights that fit say nothing."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from peft import (
    LoraConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import tsdi
from tests import tiny
from tests.tiny import refused
from tsdi.errors import NumericalError
from tsdi.models.fit import check_fit
from tsdi.models.load import LoadOptions, load_classifier, load_model
from tsdi.models.sides import load_pair

# PEFT reads a name that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
HEAD = "lm_head.weight"
LAYER = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    tiny.model().save_pretrained(path / "plain")
    tiny.model(tie_word_embeddings=True).save_pretrained(path / "tied")
    tiny.model("gpt2").save_pretrained(path / "gpt2")
    tiny.model("mixtral").save_pretrained(path / "experts")
    small = {
        "vocab_size": 32,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    BertForSequenceClassification(BertConfig(**small)).save_pretrained(path / "classifier")
    BertForMaskedLM(BertConfig(**small)).save_pretrained(path / "words")
    RobertaForSequenceClassification(RobertaConfig(**small)).save_pretrained(path / "roberta")
    return path


@pytest.fixture
def changed(models, tmp_path):
    """Copies a model with other weights or another configuration."""

    def change(source, weights=lambda found: found, **config):
        folder = tmp_path / "changed"
        shutil.copytree(models / source, folder)
        file = folder / "model.safetensors"
        save_file(weights(load_file(file)), file, metadata={"format": "pt"})
        known = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(known | config))
        return str(folder)

    return change


def prefixed(prefix):
    return lambda found: {prefix + name: tensor for name, tensor in found.items()}


def without(part):
    return lambda found: {name: tensor for name, tensor in found.items() if part not in name}


def packed(kind):
    return lambda found: {name: (tensor * 20).to(kind) for name, tensor in found.items()}


def emptied(part):
    return lambda found: {
        name: torch.empty(0) if part in name else tensor for name, tensor in found.items()
    }


class TestWeightsThatDoNotFit:
    @pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model."])
    def test_names_with_a_prefix(self, changed, prefix):
        folder = changed("plain", prefixed(prefix))
        refused(
            lambda: load_model(folder),
            folder,
            "lacks 21 tensors (lm_head.weight, model.embed_tokens.weight,",
            f"21 tensors that the model does not have ({prefix}lm_head.weight",
            f"names begin with {prefix!r}",
        )

    @pytest.mark.parametrize(
        ("kind", "said"), [(torch.int8, "I8"), (torch.float8_e4m3fn, "F8_E4M3")]
    )
    def test_packed_weights_whose_scales_are_nowhere(self, changed, kind, said):
        folder = changed("plain", packed(kind))
        refused(lambda: load_model(folder), folder, HEAD, f"is {said}", "packed weights")

    @pytest.mark.parametrize("method", ["packed-2", None, 7])
    def test_a_quantiser_that_nobody_knows(self, changed, method):
        folder = changed("plain", quantization_config={"quant_method": method, "bits": 2})
        refused(lambda: load_model(folder), folder, f"quantised by {method!r}", "bfloat16")

    def test_a_missing_head(self, changed):
        folder = changed("plain", without("lm_head"))
        refused(lambda: load_model(folder), f"lacks 1 tensor ({HEAD})", "tie_word_embeddings")

    def test_a_tied_head_with_an_untied_config(self, changed):
        folder = changed("tied", tie_word_embeddings=False)
        refused(lambda: load_model(folder), f"lacks 1 tensor ({HEAD})")

    def test_a_layer_too_few(self, changed):
        folder = changed("plain", num_hidden_layers=3)
        refused(lambda: load_model(folder), "lacks 9 tensors (model.layers.2.")

    def test_a_layer_too_many(self, changed):
        folder = changed("plain", num_hidden_layers=1)
        refused(
            lambda: load_model(folder), "9 tensors that the model does not have (model.layers.1."
        )

    def test_another_shape(self, changed):
        folder = changed("plain", intermediate_size=40)
        refused(
            lambda: load_model(folder),
            "6 tensors of another shape",
            "model.layers.0.mlp.down_proj.weight is [32, 48], the model's [32, 40]",
        )

    def test_empty_tensors_of_a_sharded_training(self, changed):
        folder = changed("plain", emptied("mlp"))
        refused(lambda: load_model(folder), "is [0], the model's [32, 48]", "ZeRO-3")

    def test_a_missing_expert(self, changed):
        folder = changed("experts", without("experts.1."))
        refused(lambda: load_model(folder), "experts.down_proj is [3, 32, 48]")

    def test_experts_of_different_shapes(self, changed):
        def cut(found):
            return {
                name: tensor[:5].clone() if "experts.1." in name else tensor
                for name, tensor in found.items()
            }

        folder = changed("experts", cut)
        refused(lambda: load_model(folder), folder, "experts")

    def test_a_classifier_with_too_few_and_too_many(self, changed):
        folder = changed("classifier", without("encoder.layer.0.output"))
        refused(lambda: load_classifier(folder), "lacks 4 tensors (bert.encoder.layer.0.output.")
        shutil.rmtree(folder)
        folder = changed("classifier", lambda found: found | {"bert.extra": torch.ones(2)})
        refused(
            lambda: load_classifier(folder), "1 tensor that the model does not have (bert.extra)"
        )

    def test_a_classifier_without_a_head(self, models):
        refused(lambda: load_classifier(str(models / "words")), "no trained classification head")

    def test_both_sides_of_a_pair(self, models, changed):
        folder = changed("plain", without("lm_head"))
        fits = str(models / "plain")
        refused(lambda: load_pair(folder, fits, LoadOptions()), f"{folder} lacks")
        refused(lambda: load_pair(fits, folder, LoadOptions()), f"{folder} lacks")


class TestWeightsThatFit:
    def test_say_nothing(self, models, capfd):
        load_model(str(models / "plain"))
        said = "".join(capfd.readouterr())
        assert "lm_head" not in said
        assert "REPORT" not in said

    def test_a_tied_head_is_not_missed(self, models):
        model = load_model(str(models / "tied"))
        assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()

    def test_tied_by_the_config_and_saved_twice(self, changed):
        def twice(found):
            return found | {HEAD: found["model.embed_tokens.weight"].clone()}

        load_model(changed("tied", twice))

    @pytest.mark.parametrize(
        ("source", "name"),
        [
            ("plain", "model.layers.0.self_attn.rotary_emb.inv_freq"),
            ("gpt2", "transformer.h.0.attn.bias"),
            ("gpt2", "transformer.h.0.attn.masked_bias"),
            ("gpt2", "h.1.attn.bias"),
            ("classifier", "bert.embeddings.position_ids"),
        ],
    )
    def test_buffers_of_old_checkpoints_are_passed_over(self, changed, source, name):
        folder = changed(source, lambda found: found | {name: torch.ones(1, 1, 4, 4)})
        (load_classifier if source == "classifier" else load_model)(folder)

    def test_what_quantisers_add_is_passed_over_in_quantised_models_only(self):
        added = ["model.layers.0.mlp.up_proj.bias", "model.layers.0.self_attn.k_scale"]
        info = {"missing_keys": [], "mismatched_keys": [], "unexpected_keys": added}
        model = tiny.model()
        refused(lambda: check_fit("m", model, info), "2 tensors that the model does not have")
        model.config.quantization_config = {"quant_method": "gptq"}
        check_fit("m", model, info)

    def test_a_pooler_that_a_classifier_does_not_use(self, changed):
        pooler = {"roberta.pooler.dense.bias": torch.ones(8)}
        load_classifier(changed("roberta", lambda found: found | pooler))


@pytest.fixture
def adapter(models, tmp_path):
    """Makes an adapter with other weights or names; gives its folder."""

    def make(weights=lambda found: found, name="adapter", source="plain", **config):
        base = load_model(str(models / source))
        wanted = {"target_modules": ["q_proj", "v_proj"], "init_lora_weights": False, **config}
        folder = tmp_path / name
        get_peft_model(base, LoraConfig(r=4, **wanted)).save_pretrained(folder)
        file = folder / "adapter_model.safetensors"
        save_file(weights(load_file(file)), file, metadata={"format": "pt"})
        return str(folder)

    return make


def renamed(old, new):
    return lambda found: {name.replace(old, new): tensor for name, tensor in found.items()}


# Names and number of what fits to nothing, and of what gets nothing.
MISFITS = [
    (renamed("base_model.model.", "base_model.model.module."), 8, 8),
    (renamed("base_model.model.", "_orig_mod.base_model.model."), 8, 8),
    (renamed("layers.1.", "blocks.1."), 4, 4),
    (without("layers.1."), 0, 4),
    (lambda found: found | {"base_model.model.model.more.lora_A.weight": torch.ones(4, 4)}, 1, 0),
]


class TestAdapters:
    @pytest.mark.parametrize(("weights", "unexpected", "missing"), MISFITS)
    def test_names_that_do_not_fit(self, models, adapter, weights, unexpected, missing):
        folder = adapter(weights)
        parts = [f"{unexpected} tensor"] * bool(unexpected) + [f"lacks {missing} "] * bool(missing)
        refused(lambda: load_model(folder), folder, *parts, "q_proj" if missing else "more")

    @pytest.mark.parametrize("weights", [MISFITS[0][0], MISFITS[-1][0]])
    def test_as_either_side_of_a_pair(self, models, adapter, weights):
        bad, good, base = adapter(weights), adapter(name="good"), str(models / "plain")
        for aligned, reference in ((bad, base), (bad, good), (good, bad), (base, bad)):
            refused(lambda a=aligned, r=reference: load_pair(a, r, LoadOptions()), bad)

    def test_a_module_saved_whole_that_is_missing(self, adapter):
        folder = adapter(without("lm_head"), modules_to_save=["lm_head"])
        refused(lambda: load_model(folder), folder, "lm_head")

    def test_modules_that_the_base_does_not_have(self, adapter):
        folder = adapter()
        file = Path(folder) / "adapter_config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps(config | {"target_modules": ["c_attn"]}))
        refused(lambda: load_model(folder), folder, "c_attn")

    def test_packed_weights(self, adapter):
        folder = adapter(packed(torch.int8))
        refused(lambda: load_model(folder), folder, "lora_A.weight", "is int8")

    def test_one_that_names_itself_as_its_base(self, adapter):
        folder = adapter()
        file = Path(folder) / "adapter_config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps(config | {"base_model_name_or_path": folder}))
        refused(lambda: load_model(folder), folder, "which is an adapter itself")

    def test_layers_that_there_are_not(self, adapter):
        folder = adapter()
        file = Path(folder) / "adapter_config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps(config | {"layer_replication": [[0, 1000]]}))
        refused(lambda: load_model(folder), folder)

    def test_another_size(self, adapter):
        def cut(found):
            return {name: tensor[..., :3].contiguous() for name, tensor in found.items()}

        refused(lambda: load_model(adapter(cut)), "size mismatch", "[4, 3]", "[4, 32]")

    def test_one_that_fits_says_nothing_and_works(self, models, adapter, recwarn):
        folder, base = adapter(), load_model(str(models / "plain"))
        ids = tiny.ids()
        with torch.no_grad():
            shift = load_model(folder)(ids).logits - base(ids).logits
        assert shift.abs().max() > 0.1
        assert not [w for w in recwarn if "adapter" in str(w.message)]

    @pytest.mark.parametrize("kind", ["prompt", "prefix", "p"])
    def test_those_that_change_no_weights_are_not_supported(self, models, tmp_path, kind):
        base = load_model(str(models / "plain"))
        config = {
            "prompt": PromptTuningConfig,
            "prefix": PrefixTuningConfig,
            "p": PromptEncoderConfig,
        }[kind](num_virtual_tokens=2, task_type="CAUSAL_LM")
        get_peft_model(base, config).save_pretrained(tmp_path / kind)
        name = str(tmp_path / kind)
        refused(
            lambda: load_model(name),
            name,
            f"the kind {kind.upper()}_TUNING,",
            "not supported",
            "LoRA",
        )

    @pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
    @pytest.mark.parametrize("turned", [False, True])
    @pytest.mark.parametrize("one_at_a_time", [False, True])
    def test_two_that_one_base_cannot_hold(self, adapter, turned, one_at_a_time, caplog):
        names = [
            adapter(name="head", target_modules=["lm_head"]),
            adapter(name="whole", modules_to_save=["lm_head"]),
        ][:: -1 if turned else 1]
        with caplog.at_level("INFO", "tsdi"):
            sides = load_pair(*names, LoadOptions(), one_at_a_time=one_at_a_time)
        assert "each gets its own" in caplog.text
        for name, side in zip(names, sides, strict=True):
            with side.open() as model, torch.no_grad():
                expected = load_model(name)(tiny.ids()).logits
                torch.testing.assert_close(model(tiny.ids()).logits, expected)

    def test_two_on_one_base(self, adapter):
        aligned, reference = load_pair(adapter(), adapter(name="other"), LoadOptions())
        with aligned.open() as one, reference.open() as other:
            assert one is other


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_one_number_that_is_none_is_found(changed, dtype, number):
    def broken(weights):
        weights = {name: tensor.to(dtype) for name, tensor in weights.items()}
        weights[LAYER][7, 5] = number
        return weights

    name = changed("plain", broken)
    refused(lambda: load_model(name), LAYER, name, "NaN or infinite", kind=NumericalError)


def test_a_dtype_that_cannot_hold_a_number_is_found(changed):
    name = changed("plain", lambda weights: weights | {LAYER: weights[LAYER] * 1e6})
    load_model(name, LoadOptions("bfloat16"))
    half = LoadOptions("float16")
    refused(lambda: load_model(name, half), LAYER, "in float32 or bfloat16", kind=NumericalError)


def test_a_head_may_rule_out_tokens(tmp_path):
    padded = tiny.model("phi")  # which has a bias at its head
    padded.lm_head.bias.data[-16:] = -torch.inf
    padded.save_pretrained(tmp_path)
    load_model(str(tmp_path))


def test_an_adapter_has_no_nan_either(models, adapter):
    name = adapter()
    file = Path(name) / "adapter_model.safetensors"
    weights = load_file(file)
    next(iter(weights.values()))[0, 0] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})
    refused(lambda: load_model(name), name, "NaN or infinite", kind=NumericalError)


def test_no_other_place_loads_weights_unchecked():
    loads = re.compile(r"(Model|LM|Classification)\w*\.from_pretrained")
    source = Path(tsdi.__file__).parent
    found = {p.name for p in source.rglob("*.py") if loads.search(p.read_text(encoding="utf-8"))}
    assert found == {"load.py", "smollm2.py"}  # PEFT's adapter and a GGUF file, checked there
