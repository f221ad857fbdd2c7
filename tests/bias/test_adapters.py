"""Adapters on one base model stand for two models: they give what separately merged ones give."""

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from tests import tiny
from tsdi.bias import Estimation, estimate_bias
from tsdi.errors import ModelError, UsageError
from tsdi.models import compatibility
from tsdi.models import load as models
from tsdi.models.load import LoadOptions
from tsdi.models.sides import adapter_sides, load_pair

OPTIONS = Estimation(prompts=16, steps=3, prompt_tokens=6, groups=4, pool="tokenizer")
pytestmark = [
    # PEFT reads a name that transformers has renamed.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    # PEFT warns about the case that is tested here.
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]

ATTENTION = {"target_modules": ["q_proj", "v_proj"]}
LM_HEAD = {"target_modules": ["lm_head"]}
EMBEDDING = {"target_modules": ["embed_tokens"]}
SAVED_HEAD = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}


def config(seed=0, **changes):
    torch.manual_seed(seed)
    # Random instead of zero, so that the adapter does something.
    return LoraConfig(r=4, lora_alpha=8, **{"init_lora_weights": False, **changes})


def adapted(base, seed=0, **changes):
    model = get_peft_model(copy.deepcopy(base), config(seed, **changes)).eval()
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def merged(model, adapter="default"):
    model = copy.deepcopy(model)
    model.set_adapter(adapter)
    return model.merge_and_unload(adapter_names=[adapter])


def equal(one, other):
    return tiny.error(one.values, other.values) < 1e-5


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


@pytest.mark.parametrize("changes", [ATTENTION, LM_HEAD, SAVED_HEAD])
class TestOneLoad:
    def test_adapter_on_and_off_equals_two_models(self, tokenizer, changes):
        base = tiny.model()
        model = adapted(base, **changes)
        found = estimate_bias(*adapter_sides(model, "default"), tokenizer, OPTIONS)
        truth = estimate_bias(merged(model), base, tokenizer, OPTIONS)
        assert truth.values.abs().max() > 0.05, "the adapter must do something"
        assert equal(found, truth)
        assert found.info.paths == {"aligned": "head_inputs", "reference": "head_inputs"}

    def test_two_named_adapters_equal_two_models(self, tokenizer, changes):
        model = adapted(tiny.model(), **changes)
        model.add_adapter("safe", config(1, **changes))
        sides = adapter_sides(model, "safe", "default")
        truth = estimate_bias(merged(model, "safe"), merged(model), tokenizer, OPTIONS)
        assert equal(estimate_bias(*sides, tokenizer, OPTIONS), truth)


class TestSides:
    def test_the_active_adapter_is_restored(self, tokenizer):
        model = adapted(tiny.model(), **ATTENTION)
        model.add_adapter("safe", config(1, **ATTENTION))
        before = tiny.logits(model, tiny.ids(), 3)
        estimate_bias(*adapter_sides(model, "safe"), tokenizer, OPTIONS)
        assert model.active_adapter == "default"
        assert torch.equal(tiny.logits(model, tiny.ids(), 3), before)

    def test_it_is_restored_after_an_error_too(self):
        model = adapted(tiny.model(), **ATTENTION)
        model.add_adapter("safe", config(1, **ATTENTION))
        for side in adapter_sides(model, "safe"):
            with pytest.raises(KeyboardInterrupt), side.open():
                raise KeyboardInterrupt
            assert model.active_adapter == "default"

    @pytest.mark.parametrize("names", [("safe", None), ("default", "safe")])
    def test_an_unknown_adapter_is_named(self, names):
        model = adapted(tiny.model(), **ATTENTION)
        with pytest.raises(ModelError, match=r"no adapter 'safe'. It has: \['default'\]"):
            adapter_sides(model, *names)

    def test_a_model_without_adapters_has_none(self):
        with pytest.raises(ModelError, match=r"It has: \[\]"):
            adapter_sides(tiny.model(), "default")


class TestTiedEmbeddings:
    """Merging changes the weight that both ends share; unmerged, the adapter changes one end."""

    def estimate(self, tokenizer, **changes):
        model = adapted(tiny.model(tie_word_embeddings=True), **changes)
        return estimate_bias(*adapter_sides(model, "default"), tokenizer, OPTIONS)

    @pytest.mark.parametrize("changes", [LM_HEAD, EMBEDDING])
    def test_an_adapter_that_means_two_things_is_refused(self, tokenizer, changes):
        with pytest.raises(ModelError, match="merged and unmerged it is not the same model"):
            self.estimate(tokenizer, **changes)

    @pytest.mark.parametrize("changes", [LM_HEAD, EMBEDDING])
    def test_a_fresh_one_does_nothing_and_is_accepted(self, tokenizer, changes):
        bias = self.estimate(tokenizer, init_lora_weights=True, **changes)
        assert bias.values.abs().max() < 1e-5

    def test_one_on_other_layers_is_accepted(self, tokenizer):
        assert self.estimate(tokenizer, **ATTENTION).values.abs().max() > 0.05

    def test_untied_embeddings_may_be_adapted(self, tokenizer):
        base = tiny.model()
        model = adapted(base, **EMBEDDING)
        found = estimate_bias(*adapter_sides(model, "default"), tokenizer, OPTIONS)
        assert equal(found, estimate_bias(merged(model), base, tokenizer, OPTIONS))

    def test_the_check_changes_no_weight(self):
        model = adapted(tiny.model(tie_word_embeddings=True), **LM_HEAD)
        before = tiny.logits(model, tiny.ids(), 3)
        with pytest.raises(ModelError):
            compatibility.check_tied_adapter(model)
        assert torch.equal(tiny.logits(model, tiny.ids(), 3), before)


def test_an_adapter_and_its_own_base_are_one_model(tokenizer):
    model = adapted(tiny.model(), **ATTENTION)
    with pytest.raises(UsageError, match="adapter_sides"):
        estimate_bias(model, model.get_base_model(), tokenizer, OPTIONS)


class TestFolders:
    @pytest.fixture
    def folders(self, tmp_path):
        base = tiny.model()
        base.save_pretrained(tmp_path / "base")
        for seed, name in enumerate(("sft", "safe")):
            model = adapted(base, seed, **ATTENTION)
            model.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
            model.save_pretrained(tmp_path / name)
        return tmp_path

    @pytest.fixture
    def loads(self, monkeypatch):
        seen = []
        load = models.AutoModelForCausalLM.from_pretrained

        def counted(name, **options):
            seen.append(name)
            return load(name, **options)

        monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", counted)
        return seen

    def truth(self, folders, name):
        base = models.load_model(str(folders / "base"))
        if name == "base":
            return base
        return PeftModel.from_pretrained(base, str(folders / name)).merge_and_unload().eval()

    @pytest.mark.parametrize("names", [("safe", "base"), ("safe", "sft"), ("sft", "safe")])
    def test_the_base_is_loaded_once(self, folders, loads, tokenizer, names):
        paths = [str(folders / name) for name in names]
        sides = load_pair(*paths, LoadOptions())
        assert loads == [str(folders / "base")]
        assert [side.name for side in sides] == paths
        truth = [self.truth(folders, name) for name in names]
        found = estimate_bias(*sides, tokenizer, OPTIONS)
        assert equal(found, estimate_bias(*truth, tokenizer, OPTIONS))

    def test_an_adapter_folder_without_a_tokenizer_has_its_bases(self, folders):
        tiny.tokenizer().save_pretrained(folders / "base")
        known = models.load_tokenizer(str(folders / "safe"))
        compatibility.check_same_tokenizer(known, tiny.tokenizer())

    @pytest.mark.parametrize("one_at_a_time", [True, False])
    def test_a_reference_that_is_no_base_is_loaded_beside(self, folders, tokenizer, one_at_a_time):
        other = tiny.model(seed=4)
        other.save_pretrained(folders / "other")
        paths = str(folders / "safe"), str(folders / "other")
        sides = load_pair(*paths, LoadOptions(), one_at_a_time=one_at_a_time)
        found = estimate_bias(*sides, tokenizer, OPTIONS)
        assert equal(found, estimate_bias(self.truth(folders, "safe"), other, tokenizer, OPTIONS))

    @pytest.mark.parametrize("place", ["aligned", "reference"])
    def test_a_damaged_adapter_is_named(self, folders, place):
        damaged = {"aligned": "safe", "reference": "sft"}[place]
        weights = folders / damaged / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:99])
        with pytest.raises(ModelError, match=damaged) as caught:
            load_pair(str(folders / "safe"), str(folders / "sft"), LoadOptions())
        assert "\n" not in str(caught.value)

    def test_a_damaged_adapter_config_is_named(self, folders):
        (folders / "safe" / "adapter_config.json").write_text('{"base_model')
        with pytest.raises(ModelError, match="safe"):
            models.load_model(str(folders / "safe"))

    def test_without_peft_the_install_line_is_given(self, folders, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "peft", None)
        with pytest.raises(ModelError, match=r"pip install 'tsdi\[peft\]'"):
            models.load_model(str(folders / "safe"))
