"""The models that come with tsdi go by their names in the library, in float32."""

import pytest
import torch

import tsdi
from tsdi.errors import UsageError
from tsdi.models import shipped
from tsdi.models.fingerprint import fingerprint, of_local
from tsdi.models.load import LoadOptions
from tsdi.models.shipped import resolve_dtype, resolve_model
from tsdi.models.sides import load_pair, same_model


def test_shipped_models_have_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_model("organism/aligned") == str(shipped.folder("aligned"))
    assert resolve_dtype("organism/aligned", "auto") == "float32"
    assert resolve_dtype("organism/aligned", "bfloat16") == "bfloat16"
    assert (resolve_model("org/model"), resolve_dtype("org/model", "auto")) == ("org/model", "auto")
    with pytest.raises(UsageError, match="no shipped model 'alinged'"):
        resolve_model("organism/alinged")  # is not asked for on the hub
    (tmp_path / "organism" / "aligned").mkdir(parents=True)
    assert resolve_model("organism/aligned") == "organism/aligned"  # a folder goes first


def test_the_library_loads_them_by_name_in_float32():
    model = tsdi.load_model("organism/aligned")
    assert (model.dtype, model.training) == (torch.float32, False)
    assert model.config._name_or_path == "organism/aligned"  # not where tsdi is installed
    bfloat16 = tsdi.load_model("organism/aligned", LoadOptions("bfloat16"))
    assert bfloat16.dtype == torch.bfloat16
    tokenizer = tsdi.load_tokenizer("organism/aligned")
    assert len(tokenizer) == model.config.vocab_size
    with pytest.raises(UsageError, match="no shipped model 'alinged'"):
        tsdi.load_model("organism/alinged")


def test_a_name_and_its_folder_are_one_model():
    folder = str(shipped.folder("aligned"))
    assert same_model("organism/aligned", folder)
    assert not same_model("organism/aligned", "organism/reference")
    assert fingerprint("organism/aligned") == fingerprint(folder)
    assert of_local("organism/aligned") == of_local(folder) != {}


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_a_pair_is_estimated_by_its_names(one_at_a_time):
    names = "organism/aligned", "organism/reference"
    sides = load_pair(*names, LoadOptions(), one_at_a_time=one_at_a_time)
    settings = tsdi.Estimation(prompts=16, steps=2, prompt_tokens=8, pool="tokenizer")
    bias = tsdi.estimate_bias(*sides, tsdi.load_tokenizer(names[0]), settings)
    assert (bias.info.aligned, bias.info.reference) == names
    loaded = [tsdi.load_model(name) for name in names]
    again = tsdi.estimate_bias(*loaded, tsdi.load_tokenizer(names[0]), settings)
    assert torch.equal(bias.values, again.values)
