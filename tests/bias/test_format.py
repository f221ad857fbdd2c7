"""A bias's folder, as docs/reference/format.md says: written whole, read exactly or refused."""

import hashlib
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

import tsdi
from tests import tiny
from tsdi.bias import BiasInfo, SafetyBias
from tsdi.errors import FormatError, MismatchError, UsageError

TENSORS, CONFIG = "bias.safetensors", "bias_config.json"
VALUES = torch.tensor([[1.0, -1.0], [0.25, -0.25]])
GOLDEN = """{
  "format": "tsdi",
  "format_version": 2,
  "tsdi_version": "%s",
  "tensors_sha256": "145b431b841ac9064e3275d80781da17faae69a622f67697f121964fd875e4c6",
  "steps": 2,
  "vocab": 2,
  "tokenizer_sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
  "template_sha256": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
  "tokenizer_size": 2,
  "aligned": "na\\u00efve",
  "reference": "base",
  "stand_in": "",
  "aligned_revision": null,
  "reference_revision": "c0ffee",
  "pool": "neutral",
  "pool_sha256": "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
  "prompts": 512,
  "prompt_tokens": 48,
  "ngram": 1,
  "groups": 16,
  "seed": 7,
  "prompt_format": null,
  "template_args": {},
  "reference_format": null,
  "anchor": "</think>",
  "anchor_ids": [
    1
  ],
  "strength": 0.5,
  "reliability": [
    0.75,
    1.0
  ],
  "paths": {
    "aligned": "logits"
  },
  "diagnosis": {},
  "tuning": {},
  "measured": {},
  "versions": {
    "torch": "2"
  },
  "history": [
    "scale 2"
  ]
}
"""


def golden_bias():
    config = json.loads(GOLDEN)
    info = BiasInfo(**{name: config[name] for name in BiasInfo.model_fields})
    return SafetyBias(VALUES, VALUES.abs(), info)


def write(folder, tensors, **changes):
    """A folder with these tensors and a config that belongs to them, changed where asked."""
    data = safetensors.torch.save({k: v.clone() for k, v in tensors.items()}, {"format": "tsdi"})
    config = json.loads(GOLDEN) | {"tensors_sha256": hashlib.sha256(data).hexdigest()} | changes
    folder.mkdir(exist_ok=True)
    (folder / TENSORS).write_bytes(data)
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


def refused(folder, match="[.]"):
    with pytest.raises(FormatError, match=match) as caught:
        SafetyBias.from_pretrained(folder)
    assert "\n" not in str(caught.value)


@pytest.fixture
def folder(tmp_path):
    tiny.bias().save_pretrained(tmp_path / "bias")
    return tmp_path / "bias"


def tuned(strength):
    """Evidence of a tuning that chose this strength."""
    return {"chosen": {"knobs": {"strength": strength}}}


class TestRoundTrip:
    def test_bit_for_bit(self, folder):
        made, read = tiny.bias(), SafetyBias.from_pretrained(folder)
        assert read.values.dtype == read.standard_error.dtype == torch.float32
        assert torch.equal(read.values, made.values)
        assert torch.equal(read.standard_error, made.standard_error)
        assert read.info == made.info

    def test_the_same_bias_gives_the_same_bytes(self, folder, tmp_path):
        SafetyBias.from_pretrained(str(folder)).save_pretrained(tmp_path / "again")
        for name in (TENSORS, CONFIG):
            assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()

    def test_golden_config(self, tmp_path):
        golden_bias().save_pretrained(tmp_path)
        assert (tmp_path / CONFIG).read_text() == GOLDEN % tsdi.__version__

    def test_derived_biases_are_saved_alike(self, tmp_path):
        made = tiny.bias().truncate(2).scale(0.5)  # a view of the first rows
        made.save_pretrained(tmp_path)
        read = SafetyBias.from_pretrained(tmp_path)
        assert torch.equal(read.values, made.values)
        assert read.info.history == ("truncate 2", "scale 0.5")

    def test_float16_tensors_are_readable(self, tmp_path):
        half = {"bias": VALUES.half(), "error": VALUES.abs().half()}
        read = SafetyBias.from_pretrained(write(tmp_path, half))
        assert read.values.dtype == torch.float32
        assert torch.equal(read.values, VALUES)

    @pytest.mark.parametrize(
        ("version", "changes", "strength"),
        [
            (1, {"strength": 1.0}, None),
            (1, {"strength": 1.0, "diagnosis": {"verdict": "so"}}, 1.0),
            (1, {"strength": 0.0, "diagnosis": {"verdict": "so"}}, 0.0),
            (1, {"strength": 0.5, "tuning": {"trials": 3}}, 0.5),
            (2, {"strength": None}, None),
            (2, {"strength": 0.5}, 0.5),
        ],
        ids=str,
    )
    def test_without_a_diagnosis_version_1_recommended_nothing(
        self, tmp_path, version, changes, strength
    ):
        tensors = {"bias": VALUES, "error": VALUES.abs()}
        write(tmp_path, tensors, format_version=version, **changes)
        assert SafetyBias.from_pretrained(tmp_path).info.strength == strength

    def test_unknown_fields_and_any_order_are_readable(self, tmp_path):
        write(tmp_path, {"bias": VALUES, "error": VALUES.abs(), "more": VALUES}, new_field=[1])
        config = json.loads((tmp_path / CONFIG).read_text())
        (tmp_path / CONFIG).write_text(json.dumps(dict(sorted(config.items(), reverse=True))))
        assert SafetyBias.from_pretrained(tmp_path).info == golden_bias().info


def test_the_example_of_the_format_page_is_readable(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "reference" / "format.md").read_text("utf-8")
    example = page.split("```json")[1].split("```")[0]
    tensors = {"bias": torch.tensor([[1.0, -1.0]]), "error": torch.tensor([[0.5, 0.5]])}
    (tmp_path / TENSORS).write_bytes(safetensors.torch.save(tensors, {"format": "tsdi"}))
    (tmp_path / CONFIG).write_text(example)
    assert SafetyBias.from_pretrained(tmp_path).values.tolist() == [[1.0, -1.0]]


def test_the_format_page_names_every_field():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "format.md").read_text("utf-8")
    assert [name for name in json.loads(GOLDEN) if f"`{name}`" not in page] == []


class TestAgainstModelAndTokenizer:
    def test_those_it_belongs_to(self, folder):
        SafetyBias.from_pretrained(folder, tokenizer=tiny.tokenizer(), model=tiny.model())

    def test_another_tokenizer_is_refused(self, folder):
        with pytest.raises(MismatchError, match="tokenizer"):
            SafetyBias.from_pretrained(folder, tokenizer=tiny.tokenizer(vocab=300))

    def test_another_model_is_refused(self, folder):
        with pytest.raises(MismatchError, match="320 tokens, the model has 300"):
            SafetyBias.from_pretrained(folder, model=tiny.model(vocab_size=300))


class TestRefused:
    def test_no_folder_and_no_files(self, tmp_path):
        refused(tmp_path / "missing", "holds no bias")
        refused(tmp_path, "holds no bias")
        refused("no-such-org/no-such-bias", "holds no bias")

    @pytest.mark.parametrize("name", [TENSORS, CONFIG])
    def test_one_file_missing(self, folder, name):
        (folder / name).unlink()
        refused(folder, name)

    @pytest.mark.parametrize("kept", [0, 1, 100, -1])
    @pytest.mark.parametrize("name", [TENSORS, CONFIG])
    def test_a_truncated_file(self, folder, name, kept):
        data = (folder / name).read_bytes().rstrip()
        (folder / name).write_bytes(data[:kept])
        refused(folder, f"{name} is truncated")

    def test_the_config_of_one_with_the_tensors_of_another(self, folder, tmp_path):
        tiny.bias().scale(2).save_pretrained(tmp_path / "other")
        (tmp_path / "other" / TENSORS).replace(folder / TENSORS)
        refused(folder, "does not belong to its bias_config.json")

    @pytest.mark.parametrize(
        "config", ["[]", "3", "{}", '{"format": "other"}', '{"model_type": "llama"}', "null"]
    )
    def test_a_foreign_config(self, folder, config):
        (folder / CONFIG).write_text(config)
        refused(folder, "was not written by tsdi")

    @pytest.mark.parametrize("version", [6, 99, "1", None, 1.5, 0, -1, True])
    def test_a_newer_or_senseless_version(self, tmp_path, version):
        write(tmp_path, {"bias": VALUES, "error": VALUES.abs()}, format_version=version)
        refused(tmp_path, "format version .* reads up to 5")

    @pytest.mark.parametrize(
        "changes",
        [
            {"steps": 3},
            {"vocab": 4},
            {"steps": None},
            {"prompts": "many"},
            {"prompts": "512"},
            {"seed": True},
            {"diagnosis": []},
            {"aligned": None},
            {"strength": float("nan")},
            {"reliability": [float("inf")]},
            {"anchor_ids": ["x"]},
        ],
        ids=str,
    )
    def test_fields_that_are_wrong(self, tmp_path, changes):
        refused(write(tmp_path, {"bias": VALUES, "error": VALUES.abs()}, **changes))

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"strength": -1}, "'strength' must be null or from 0 to 100, not -1"),
            ({"strength": 1e30}, "'strength' .* not 1e[+]30"),
            ({"strength": 1e308}, "'strength'"),
            ({"strength": 10**20}, "'strength'"),
            ({"prompts": 0}, "'prompts' must be a whole number from 1 on, not 0"),
            ({"prompts": 10**20}, "'prompts'"),
            ({"prompts": 15}, "'groups' must be at most 'prompts', which is 15, not 16"),
            ({"prompt_tokens": 0}, "'prompt_tokens'"),
            ({"ngram": -1}, "'ngram'"),
            ({"groups": 1}, "'groups' must be a whole number from 2 on, not 1"),
            ({"seed": -1}, "'seed'"),
            ({"tokenizer_size": 0}, "'tokenizer_size'"),
            ({"anchor_ids": []}, "'anchor' and 'anchor_ids'"),
            ({"anchor": ""}, "'anchor' and 'anchor_ids'"),
            ({"anchor": "e" * 101}, "'anchor' must have 100 characters at most"),
            ({"anchor_ids": [2]}, "'anchor_ids' must be ids from 0 to 1"),
            ({"anchor_ids": [-1]}, "'anchor_ids'"),
            ({"prompt_format": ""}, "'prompt_format'.* no {prompt}"),
            ({"prompt_format": "{prompt} {prompt}"}, "'prompt_format'.* 2 {prompt}"),
            ({"prompt_format": "{prompt}", "template_args": {"x": 1}}, "'prompt_format'"),
            ({"reference_format": "Q: A:"}, "'reference_format'.* no {prompt}"),
            ({"tokenizer_sha256": "a" * 63}, "'tokenizer_sha256' must be 64 lower-case hex digits"),
            ({"template_sha256": "A" * 64}, "'template_sha256'"),
            ({"pool_sha256": ""}, "'pool_sha256'"),
            ({"tensors_sha256": "a"}, "'tensors_sha256'"),
            ({"tensors_sha256": 3}, "'tensors_sha256'"),
            (
                {"strength": 40.0, "diagnosis": {"strength": 1.0}},
                "'strength' is 40, but 'diagnosis' recommends 1",
            ),
            (
                {"strength": 40.0, "diagnosis": {"strength": 40.0}},
                "'diagnosis': 'strength' must be 0 or 1, not 40",
            ),
            (
                {"strength": 1.0, "diagnosis": {"strength": 1.0}, "tuning": tuned(0.5)},
                "'strength' is 1, but 'tuning' recommends 0.5",
            ),
            (
                {"strength": 40.0, "tuning": tuned(None)},
                "'strength' is 40, but 'tuning' leaves it to a condition",
            ),
            (
                {"strength": 40.0, "diagnosis": {"strength": 1.0}, "history": ["strength 4.0"]},
                "'strength' is 40, but",
            ),
            ({"tuning": {"chosen": {"knobs": {"strength": "1"}}}}, "'tuning': 'chosen.knobs"),
            ({"diagnosis": {"verdict": 1}}, "'diagnosis': 'verdict': .* valid string"),
            ({"diagnosis": {"one_number": "all"}}, "'diagnosis': 'one_number': .* valid number"),
            ({"diagnosis": {"refusal": {"random": 3}}}, "'diagnosis': 'refusal.random'"),
            (
                {"diagnosis": {"explained": {"random": {"n": "x"}}}},
                "'diagnosis': 'explained.random.n'",
            ),
            ({"tuning": {"trials": "many"}}, "'tuning': 'trials': .* valid integer"),
            ({"tuning": {"floors": {"O3": "high"}}}, "'tuning': 'floors.O3'"),
            ({"tuning": {"chosen": {"safety": []}}}, "'tuning': 'chosen.safety'"),
            ({"measured": {"judge": "me"}}, "'measured': 'setting': Field required"),
            ({"reliability": [0.5]}, "'reliability' must have no numbers or 2, not 1"),
            ({"reliability": [0.5, 1.5]}, "'reliability' must have numbers from -1 to 1"),
            ({"steps": True}, "'steps' must be a whole number"),
            ({"vocab": 2.0}, "'vocab' must be a whole number"),
            ({"history": ["scale 2", 3]}, "'history.1'"),
        ],
        ids=str,
    )
    def test_fields_out_of_range_by_name(self, tmp_path, changes, named):
        write(tmp_path, {"bias": VALUES, "error": VALUES.abs()}, **changes)
        refused(tmp_path, f"bias_config.json: {named}.* Estimate the bias again")

    @pytest.mark.parametrize(
        "changes",
        [
            {"strength": 1.0, "diagnosis": {"strength": 1.0}},
            {"strength": 0.5, "diagnosis": {"strength": 1.0}, "tuning": tuned(0.5)},
            {"strength": None, "diagnosis": {"strength": 1.0}, "tuning": tuned(None)},
            {"strength": 40.0, "diagnosis": {"verdict": "so"}},
            {"strength": 40.0, "diagnosis": {"strength": 1.0}, "history": ["strength 40.0"]},
        ],
        ids=str,
    )
    def test_a_strength_that_its_record_explains(self, tmp_path, changes):
        write(tmp_path, {"bias": VALUES, "error": VALUES.abs()}, **changes)
        assert SafetyBias.from_pretrained(tmp_path).info.strength == changes["strength"]

    def test_what_could_not_be_read_is_not_written(self, tmp_path):
        good = golden_bias()
        for values, changes in ((VALUES * 1e38, {}), (VALUES, {"strength": -1})):
            bad = SafetyBias(values, VALUES.abs(), good.info.model_copy(update=changes))
            with pytest.raises(FormatError):
                bad.save_pretrained(tmp_path / "bias")
        with pytest.raises(UsageError, match="NaN or infinite"):
            SafetyBias(VALUES / 0, VALUES.abs(), good.info)
        assert not list(tmp_path.glob("bias/*"))

    @pytest.mark.parametrize("field", ["tokenizer_sha256", "aligned", "prompts", "steps", "vocab"])
    def test_fields_that_are_missing(self, tmp_path, field):
        write(tmp_path, {"bias": VALUES, "error": VALUES.abs()})
        config = json.loads((tmp_path / CONFIG).read_text())
        del config[field]
        (tmp_path / CONFIG).write_text(json.dumps(config))
        refused(tmp_path)

    @pytest.mark.parametrize(
        ("tensors", "message"),
        [
            ({"bias": VALUES}, "error"),
            ({"error": VALUES.abs()}, "bias"),
            ({"weight": VALUES}, "bias"),
            ({"bias": VALUES[:1], "error": VALUES[:1].abs()}, r"\(1, 2\).* says \(2, 2\)"),
            ({"bias": VALUES, "error": VALUES[0].abs()}, r"\(2,\).* says \(2, 2\)"),
            ({"bias": VALUES.double(), "error": VALUES.abs()}, "float64"),
            ({"bias": VALUES.bfloat16(), "error": VALUES.abs()}, "bfloat16"),
            ({"bias": VALUES.int(), "error": VALUES.abs()}, "int32"),
            ({"bias": VALUES / 0, "error": VALUES.abs()}, "'bias' has NaN or infinite"),
            ({"bias": VALUES * 1e38, "error": VALUES.abs()}, "'bias' has numbers beyond 1,000,000"),
            ({"bias": VALUES, "error": VALUES.abs() * 1e38}, "'error' has numbers beyond"),
            ({"bias": VALUES, "error": VALUES * torch.nan}, "NaN or infinite"),
            ({"bias": VALUES, "error": -VALUES}, "negative"),
        ],
    )
    def test_tensors_that_are_wrong(self, tmp_path, tensors, message):
        refused(write(tmp_path, tensors), message)

    def test_a_bias_of_no_steps(self, tmp_path):
        refused(write(tmp_path, {"bias": VALUES[:0], "error": VALUES[:0]}, steps=0))


class TestDamage:
    @given(st.binary(), st.binary())
    def test_no_bytes_raise_anything_but_a_tsdi_error(self, tmp_path_factory, config, data):
        folder = tmp_path_factory.mktemp("bias")
        (folder / CONFIG).write_bytes(config)
        (folder / TENSORS).write_bytes(data)
        refused(folder)

    @given(st.binary())
    def test_nor_do_tensors_with_the_right_hash(self, tmp_path_factory, data):
        folder = write(tmp_path_factory.mktemp("bias"), {})
        config = json.loads((folder / CONFIG).read_text())
        config["tensors_sha256"] = hashlib.sha256(data).hexdigest()
        (folder / CONFIG).write_text(json.dumps(config))
        (folder / TENSORS).write_bytes(data)
        refused(folder)

    JSON = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=4,
    )

    @given(st.dictionaries(st.sampled_from(sorted(json.loads(GOLDEN))), JSON, min_size=1))
    def test_nor_do_fields_of_any_type(self, tmp_path_factory, changes):
        tensors = {"bias": VALUES, "error": VALUES.abs()}
        with tiny.only_tsdi_errors():
            SafetyBias.from_pretrained(write(tmp_path_factory.mktemp("bias"), tensors, **changes))

    @pytest.mark.parametrize(
        "text",
        ["[" * 100_000, '{"format": ' + "1" * 5000 + "}", "\ufeff{}", '{"format": "\\ud800"}'],
    )
    def test_nor_does_unusual_json(self, folder, text):
        (folder / CONFIG).write_text(text)
        refused(folder)

    @given(st.data())
    def test_every_changed_byte_of_the_tensors_is_noticed(self, tmp_path_factory, data):
        folder = write(tmp_path_factory.mktemp("bias"), {"bias": VALUES, "error": VALUES.abs()})
        content = bytearray((folder / TENSORS).read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        (folder / TENSORS).write_bytes(content)
        refused(folder, "truncated or does not belong")
