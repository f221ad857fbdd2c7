"""An exported checkpoint decodes as the rule does, when its own code is trusted."""

import json
import os
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import tiny
from tsdi.bias import SafetyBias
from tsdi.errors import UsageError
from tsdi.export.checkpoint import write_checkpoint
from tsdi.models.chat import ChatFormat, encode_chat

TOKENIZER = tiny.tokenizer()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    tiny.model("llama").save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    (folder / "README.md").write_text("the model's own card")
    return folder


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "model"
    write_checkpoint(tiny.bias(), 1.5, str(source), out, "org/model")
    return out


def test_arguments_of_the_template_are_in_the_exported_one(tmp_path):
    known, given = tiny.tokenizer(tiny.THINKING), {"enable_thinking": False}
    for part in (tiny.model("llama"), known):
        part.save_pretrained(tmp_path / "model")
    bias = tiny.bias(known=known, template_args=given)
    write_checkpoint(bias, 1.0, str(tmp_path / "model"), tmp_path / "out", "org/model")
    made, chat = AutoTokenizer.from_pretrained(tmp_path / "out"), [{"role": "user", "content": "a"}]
    assert encode_chat(made, chat) == encode_chat(known, chat, ChatFormat(template_args=given))
    assert (
        SafetyBias.from_pretrained(tmp_path / "out/tsdi", tokenizer=made).info.template_args == {}
    )


@pytest.mark.parametrize(("named", "history"), [(1.0, ()), (0.5, ("strength 0.5",))])
def test_a_strength_that_was_not_recommended_is_in_the_history(source, tmp_path, named, history):
    bias = tiny.bias().with_diagnosis(1.0, {"strength": 1.0})
    write_checkpoint(bias, named, str(source), tmp_path / "out", "org/model")
    info = SafetyBias.from_pretrained(tmp_path / "out/tsdi").info
    assert (info.strength, info.history) == (named, history)


def batch():
    TOKENIZER.padding_side = "left"
    chats = [[{"role": "user", "content": text}] for text in ("bread", "the old mill and fields")]
    return TOKENIZER.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )


def answer(model, **options):
    asked = batch()
    torch.manual_seed(0)
    made = model.generate(**asked, max_new_tokens=6, do_sample=False, **options)
    return made[:, asked["input_ids"].shape[1] :].tolist()


def rule():
    return [tiny.bias().logits_processor(batch()["input_ids"].shape[1], 1.5)]


@pytest.fixture(scope="module")
def trusted(exported):
    return AutoModelForCausalLM.from_pretrained(exported, trust_remote_code=True)


def test_trusted_it_decodes_as_the_rule_does(trusted):
    plain = tiny.model("llama")
    expected = answer(plain, logits_processor=rule())
    assert expected != answer(plain)
    assert answer(trusted) == expected


def test_a_call_may_switch_it_off(trusted):
    assert answer(trusted, tsdi_strength=0.0) == answer(tiny.model("llama"))


def test_beams_are_those_of_the_debiased_model(trusted):
    plain = tiny.model("llama")
    expected = answer(plain, logits_processor=rule(), num_beams=3, renormalize_logits=True)
    assert answer(trusted, num_beams=3) == expected


def test_it_may_be_called_in_every_way(trusted):
    asked = batch()
    ids, mask = asked["input_ids"], asked["attention_mask"]
    options = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False}
    expected = trusted.generate(input_ids=ids, **options).tolist()
    assert expected[0][ids.shape[1] :] == answer(trusted)[0]
    assert trusted.generate(ids, **options).tolist() == expected
    assert trusted.generate(inputs=ids, input_ids=None, **options).tolist() == expected
    embedded = trusted.get_input_embeddings()(ids)
    found = trusted.generate(inputs_embeds=embedded, **options).tolist()
    assert found == [row[ids.shape[1] :] for row in expected]


def test_without_a_prompt_it_begins_behind_the_first_token(trusted):
    options = {"max_new_tokens": 3, "do_sample": False, "output_scores": True}
    options["return_dict_in_generate"] = True
    debiased = trusted.generate(**options).scores[0]
    plain = trusted.generate(**options, tsdi_strength=0.0).scores[0]
    torch.testing.assert_close(debiased, plain - 1.5 * tiny.bias().values[0])


def test_the_bias_of_another_revision_is_refused(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "model")
    tiny.bias().scale(2).save_pretrained(tmp_path / "model" / "tsdi")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", trust_remote_code=True)
    with pytest.raises(ValueError, match="another revision"):
        answer(model)


def test_without_trust_it_decodes_plainly_as_its_card_says(exported):
    model = AutoModelForCausalLM.from_pretrained(exported)
    assert answer(model) == answer(tiny.model("llama"))
    card = (exported / "README.md").read_text()
    assert "decodes plainly" in card
    assert "org/model" in card


def test_the_card_names_what_serving_by_transformers_opens(exported):
    card = (exported / "README.md").read_text()
    assert "POST /load_model" in card
    assert "tsdi serve org/model" in card


def test_the_model_it_was_made_of_is_left_alone(source, tmp_path):
    write_checkpoint(tiny.bias(), 1.0, str(source), tmp_path / "copy", "m")
    assert (source / "README.md").read_text() == "the model's own card"
    assert not (source / "custom_generate").exists()


class TestLinks:
    @pytest.fixture
    def own(self, source, tmp_path):
        shutil.copytree(source, tmp_path / "own")
        return tmp_path / "own"

    @pytest.mark.parametrize("target", ["secret", "folder", "../secret", "nowhere", "own.txt"])
    def test_a_link_out_of_the_model_is_refused_by_name(self, own, tmp_path, target):
        (tmp_path / "secret").write_text("not the model's")
        (tmp_path / "folder").mkdir()
        (own / "own.txt").symlink_to(tmp_path / target if "/" not in target else target)
        tiny.refused(
            lambda: write_checkpoint(tiny.bias(), 1.0, str(own), tmp_path / "x", "m"), "own.txt"
        )
        assert not (tmp_path / "x").exists()

    def test_also_below_and_of_a_folder_to_itself(self, own, tmp_path):
        (own / "below").mkdir()
        (own / "below" / "round").symlink_to(own)
        tiny.refused(
            lambda: write_checkpoint(tiny.bias(), 1.0, str(own), tmp_path / "x", "m"), "round"
        )

    def test_what_is_no_file_is_refused(self, own, tmp_path):
        os.mkfifo(own / "pipe")
        tiny.refused(
            lambda: write_checkpoint(tiny.bias(), 1.0, str(own), tmp_path / "x", "m"), "pipe"
        )

    def test_a_link_within_the_model_is_followed(self, own, tmp_path):
        (own / "again.json").symlink_to("config.json")
        write_checkpoint(tiny.bias(), 1.0, str(own), tmp_path / "x", "m")
        assert (tmp_path / "x" / "again.json").read_text() == (own / "config.json").read_text()
        assert not (tmp_path / "x" / "again.json").is_symlink()

    def test_the_hubs_cache_links_to_its_blobs(self, source, tmp_path):
        repo = tmp_path / "models--org--name"
        snapshot = repo / "snapshots" / "0123abc"
        snapshot.mkdir(parents=True)
        (repo / "blobs").mkdir()
        for file in source.iterdir():
            shutil.copy(file, repo / "blobs" / f"hash-of-{file.name}")
            (snapshot / file.name).symlink_to(f"../../blobs/hash-of-{file.name}")
        write_checkpoint(tiny.bias(), 1.0, str(snapshot), tmp_path / "x", "org/name")
        assert not any(file.is_symlink() for file in (tmp_path / "x").rglob("*"))
        assert (tmp_path / "x/config.json").read_text() == (source / "config.json").read_text()
        (snapshot / "more.txt").symlink_to("../../../secret")
        tiny.refused(
            lambda: write_checkpoint(tiny.bias(), 1.0, str(snapshot), tmp_path / "y", "m"), "more"
        )


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_a_config_that_is_no_json_is_named(source, tmp_path, file, text):
    shutil.copytree(source, tmp_path / "own")
    (tmp_path / "own" / file).write_bytes(text)
    tiny.refused(
        lambda: write_checkpoint(tiny.bias(), 1.0, str(tmp_path / "own"), tmp_path / "x", "m"),
        f"{file} is no JSON",
    )


def test_an_anchored_bias_is_refused(source, tmp_path):
    with pytest.raises(UsageError, match="</think>"):
        write_checkpoint(tiny.bias(anchor="</think>"), 1.0, str(source), tmp_path / "x", "m")
    assert not (tmp_path / "x").exists()


def test_a_model_with_code_of_its_own_is_refused(source, tmp_path):
    tiny.model("llama").save_pretrained(tmp_path / "own")
    config = json.loads((tmp_path / "own/config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "code.Model"}
    (tmp_path / "own/config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="code of its own"):
        write_checkpoint(tiny.bias(), 1.0, str(tmp_path / "own"), tmp_path / "x", "m")


@pytest.mark.parametrize("file", ["tokenizer_config.json", "evil.py"])
def test_nor_with_code_for_its_tokenizer(source, tmp_path, file):
    shutil.copytree(source, tmp_path / "own")
    text = json.dumps({"auto_map": {"AutoTokenizer": [None, "evil.Evil"]}})
    (tmp_path / "own" / file).write_text(text if file.endswith("json") else "pass")
    with pytest.raises(UsageError, match="code of its own"):
        write_checkpoint(tiny.bias(), 1.0, str(tmp_path / "own"), tmp_path / "x", "m")


def test_a_place_inside_the_model_is_refused(source):
    with pytest.raises(UsageError, match="inside the model's folder"):
        write_checkpoint(tiny.bias(), 1.0, str(source), source / "out", "m")
