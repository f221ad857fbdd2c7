"""A bias with its condition: saved, read exactly, and refused where it is none."""

import dataclasses
import hashlib
import json

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny
from tsdi.bias import SafetyBias
from tsdi.errors import FormatError, MismatchError, UsageError

TENSORS, CONFIG = "bias.safetensors", "bias_config.json"
EVIDENCE = {
    "sparse": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 64},
    "case": {"name": "condition", "why": "It tells."},
}


def conditioned(**changes):
    return tiny.bias().with_condition(tiny.condition(evidence=EVIDENCE, **changes))


@pytest.fixture
def folder(tmp_path):
    conditioned().save_pretrained(tmp_path / "bias")
    return tmp_path / "bias"


def rewrite(folder, tensors=None, condition=None, **changes):
    """Change parts of a saved bias, with hashes that are right."""
    data = (folder / TENSORS).read_bytes()
    if tensors:
        known = safetensors.torch.load(data)
        known |= tensors
        data = safetensors.torch.save({k: v for k, v in known.items() if v is not None})
        (folder / TENSORS).write_bytes(data)
    config = json.loads((folder / CONFIG).read_text())
    config |= {"tensors_sha256": hashlib.sha256(data).hexdigest(), **changes}
    if condition:
        config["condition"] |= condition
    (folder / CONFIG).write_text(json.dumps(config))


def refused(folder, match):
    with pytest.raises(FormatError, match=match) as caught:
        SafetyBias.from_pretrained(folder)
    assert "\n" not in str(caught.value)


class TestRoundTrip:
    def test_bit_for_bit(self, folder):
        read, made = SafetyBias.from_pretrained(folder), conditioned()
        assert torch.equal(read.values, made.values)
        assert read.info == made.info
        for name in ("tokens", "weights"):
            assert torch.equal(getattr(read.condition, name), getattr(made.condition, name))
        for name in ("intercept", "low", "high", "width", "evidence", "tokenizer_sha256",
                     "template_sha256"):  # fmt: skip
            assert getattr(read.condition, name) == getattr(made.condition, name)

    def test_the_same_bias_gives_the_same_bytes(self, folder, tmp_path):
        SafetyBias.from_pretrained(folder).save_pretrained(tmp_path / "again")
        for name in (TENSORS, CONFIG):
            assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()

    def test_older_readers_refuse_it_and_know_a_bias_without(self, folder, tmp_path):
        assert json.loads((folder / CONFIG).read_text())["format_version"] == 3
        conditioned().with_condition(None).save_pretrained(tmp_path / "plain")
        config = json.loads((tmp_path / "plain" / CONFIG).read_text())
        assert config["format_version"] == 2
        assert "condition" not in config
        assert set(safetensors.torch.load_file(tmp_path / "plain" / TENSORS)) == {"bias", "error"}

    def test_another_condition_ends_a_tuning(self):
        tuned = conditioned().with_tuning(None, {"chosen": {"helpful": 0.5}})
        assert tuned.with_condition(tuned.condition).info.tuning
        for other in (None, tiny.condition()):
            made = tuned.with_condition(other).info
            assert (made.tuning, made.strength) == ({}, made.diagnosis.get("strength"))
        for_all = tiny.bias().with_tuning(0.5, {"chosen": {"knobs": {"strength": 0.5}}})
        assert for_all.with_condition(None).info == for_all.info
        assert for_all.with_condition(tiny.condition()).info.tuning == {}

    def test_a_model_that_it_was_not_made_for_is_told(self, caplog):
        caplog.set_level("INFO", "tsdi")
        made = tiny.bias().with_condition(tiny.condition(evidence={"model": "other"}))
        made.note_other(made.info.aligned)
        made.note_other("other")
        said = [record.getMessage() for record in caplog.records]
        assert said == [
            f"The condition was fitted to other; this is {made.info.aligned}.",
            f"The bias was estimated for {made.info.aligned}; this is other.",
        ]

    def test_saving_without_takes_an_old_one_away(self, folder):
        tiny.bias().save_pretrained(folder)
        assert SafetyBias.from_pretrained(folder).condition is None


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"width": 0.0}, "width is 0"),
            ({"width": "wide"}, "'width'"),
            ({"low": 3.0}, "low and high are 3 and 1.5"),
            ({"high": 1e6}, "low and high"),
            ({"intercept": 1e9}, "beyond 1,000,000"),
            ({"intercept": None}, "'intercept'"),
            ({"intercept": True}, "'intercept'"),
            ({"evidence": []}, "'evidence'"),
            ({"evidence": {"case": {"name": "condition", "why": 3}}}, "'case.why'"),
            ({"width": 1e-7}, "width is 1e-07"),
            ({"evidence": {"case": {"name": "perhaps", "why": ""}}}, "'case.name'"),
            ({"evidence": {"prompts": ["0" * 16, 3]}}, "'prompts.1'"),
            ({"evidence": {"prompts": ["xx"]}}, "'prompts.0': .*16 lower-case hex digits"),
            ({"evidence": {"scores": {"harmful": [1.0]}}}, "'scores.harmless'"),
            ({"evidence": {"scores": {"harmful": [2.0, 1.0], "harmless": []}}}, "must ascend"),
            ({"evidence": {"labels": {"8": "much"}}}, "'labels.8'"),
            ({"evidence": {"categories": [{"labels": "few"}]}}, "'categories.0.labels'"),
        ],
        ids=str,
    )
    def test_fields_that_are_wrong(self, folder, changes, named):
        rewrite(folder, condition=changes)
        refused(folder, f"condition cannot be used: .*{named}.* Fit it again")

    def test_strengths_that_are_not_those_of_the_tuning(self, folder, tmp_path):
        knobs = {"strength": None, "condition": {"low": 0.5, "high": 1.5, "width": 2.0}}
        made = conditioned().with_tuning(None, {"chosen": {"knobs": knobs}})
        same = {"low": 0.5, "high": 1.5, "width": 2.0}
        folder = tmp_path / "tuned"
        replaced = dataclasses.replace(made.condition, **same)
        tuned = conditioned().with_condition(replaced).with_tuning(None, made.info.tuning)
        tuned.save_pretrained(folder)
        assert SafetyBias.from_pretrained(folder).condition.high == 1.5
        rewrite(folder, condition={"high": 50.0})
        refused(folder, "'high' is not what 'tuning' says")

    @pytest.mark.parametrize("field", ["intercept", "low", "high", "width"])
    def test_fields_that_are_missing(self, folder, field):
        config = json.loads((folder / CONFIG).read_text())
        del config["condition"][field]
        (folder / CONFIG).write_text(json.dumps(config))
        refused(folder, f"'{field}'")

    @pytest.mark.parametrize("value", [[], "yes", 3, True])
    def test_what_is_no_object(self, folder, value):
        rewrite(folder, **{"condition": None})
        config = json.loads((folder / CONFIG).read_text()) | {"condition": value}
        (folder / CONFIG).write_text(json.dumps(config))
        refused(folder, "condition cannot be used")

    @pytest.mark.parametrize(
        ("tensors", "named"),
        [
            ({"condition_tokens": None}, "'condition_tokens' must be there as torch.int64"),
            ({"condition_weights": None}, "'condition_weights' must be there as torch.float32"),
            ({"condition_tokens": torch.arange(12, dtype=torch.int32)}, "torch.int64"),
            ({"condition_weights": torch.zeros(12).half()}, "torch.float32"),
            ({"condition_tokens": torch.arange(11)}, "shapes"),
            ({"condition_tokens": torch.arange(12).flip(0)}, "do not ascend"),
            ({"condition_tokens": torch.arange(12) + tiny.VOCAB - 11}, "ids beyond 319"),
            ({"condition_weights": torch.ones(12)}, "do not add up to 0"),
            ({"condition_weights": torch.full((12,), torch.nan)}, "NaN"),
            ({"condition_weights": torch.tensor([1e7, -1e7] * 6)}, "beyond 1,000,000"),
        ],
    )
    def test_tensors_that_are_wrong(self, folder, tensors, named):
        rewrite(folder, tensors)
        refused(folder, named)

    @pytest.mark.parametrize("version", [1, 2])
    def test_a_condition_in_an_older_version(self, folder, version):
        rewrite(folder, format_version=version)
        refused(folder, f"version {version} is not that of its fields: .* 3 with a condition")

    def test_version_3_without_a_condition(self, tmp_path):
        tiny.bias().save_pretrained(tmp_path / "bias")
        rewrite(tmp_path / "bias", format_version=3)
        refused(tmp_path / "bias", "version 3 is not that of its fields")

    def test_a_bias_that_begins_behind_a_marker(self, folder):
        rewrite(folder, anchor="</think>", anchor_ids=[9])
        refused(folder, "'anchor'")

    JSON = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=4,
    )

    MADE = conditioned()

    @given(st.dictionaries(st.sampled_from(["intercept", "low", "width", "evidence"]), JSON))
    def test_no_field_of_any_type_raises_anything_but_a_tsdi_error(self, tmp_path_factory, changes):
        folder = tmp_path_factory.mktemp("bias")
        self.MADE.save_pretrained(folder)
        rewrite(folder, condition=changes)
        with tiny.only_tsdi_errors():
            SafetyBias.from_pretrained(folder)

    def test_what_could_not_be_read_is_not_written(self, tmp_path):
        made = tiny.bias().with_condition(tiny.condition(evidence={"prompts": 3}))
        with pytest.raises(FormatError, match="'prompts'"):
            made.save_pretrained(tmp_path / "bias")
        assert not list(tmp_path.glob("bias/*"))


class TestTheValue:
    def test_another_tokenizer_template_or_vocabulary_is_refused(self):
        for changes, named in (
            ({"tokenizer_sha256": "0" * 64}, "another tokenizer"),
            ({"template_sha256": "0" * 64}, "another template"),
            ({"tokens": torch.arange(12) + tiny.VOCAB - 11}, "reads token 320, of 320"),
        ):
            with pytest.raises(MismatchError, match=named):
                tiny.bias().with_condition(tiny.condition(**changes))

    def test_a_bias_that_begins_behind_a_marker_has_none(self):
        with pytest.raises(UsageError, match="</think>"):
            tiny.bias(anchor="</think>", anchor_ids=(9,)).with_condition(tiny.condition())

    def test_a_named_strength_goes_first_then_the_condition_then_what_is_recommended(self):
        plain = tiny.bias(strength=0.5)
        made = plain.with_condition(tiny.condition())
        assert plain.strength_or_condition(None) == 0.5
        assert made.strength_or_condition(None) is made.condition
        assert made.strength_or_condition(2.0) == made.strength_or_recommended(2.0) == 2.0

    def test_where_only_a_number_will_do_the_condition_is_not_passed_over(self):
        with pytest.raises(UsageError, match=r"depends on the prompt .* Name one for all"):
            tiny.bias(strength=0.5).with_condition(tiny.condition()).strength_or_recommended(None)

    def test_what_is_made_from_it_has_none_but_for_a_diagnosis(self):
        made = conditioned()
        assert made.with_diagnosis(1.0, {}).condition is made.condition
        for other in (made.scale(2), made.truncate(2), made.top_k(5), made.with_tuning(1.0, {})):
            assert other.condition is None
