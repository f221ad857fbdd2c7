"""Rules without a reference, on the shipped models: what stands in, and what decides it."""

import pytest
import torch

from tests.study.made import study_file
from tsdi.bias import Estimation
from tsdi.errors import UsageError
from tsdi.models.sides import as_side
from tsdi.runs.one_model import ids_by_kind
from tsdi.stand_ins.calibration import calibrate
from tsdi.stand_ins.self_contrast import self_contrast_bias
from tsdi.stand_ins.subject import Subject
from tsdi.study.config import RuleEntry, read_study
from tsdi.study.family import ModelFamily
from tsdi.study.grid import locate, open_family
from tsdi.study.plan import plan
from tsdi.study.rule_engines import tsdi_bias
from tsdi.study.rules import RULES

FIT = '{load: "organism:fit", seed: 1, limit: {harmless: 24, lookalike: 24, harmful: 48}}'
CONTRAST = {"rule": "tsdi", "name": "contrast", "reference": "self-contrast", "strength": [0, 1]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    file = study_file(folder)
    file.write_text(file.read_text().replace("prompts:", f"prompts:\n  fit: [{FIT}]", 1))
    return plan(read_study(file), folder, folder, folder / "out")


@pytest.fixture
def family(made):
    return open_family(made, made.members[0])


def setting(rule="tsdi", **given):
    return {**RULES[rule].parameters, **given}


def test_its_bias_is_estimated_on_labels_and_scaled_on_validation_prompts(made, family):
    found = tsdi_bias(family, setting(reference="self-contrast"))
    assert found.info.stand_in == "self-contrast"
    halves = [ids_by_kind(made.prompts[s], family.tokenizer, family.chat_format)
              for s in ("fit", "validation")]  # fmt: skip
    usual = Estimation(prompts=16, steps=4, prompt_tokens=8, pool="tokenizer")  # the study's
    subject = Subject(
        as_side(family.model("aligned")), family.tokenizer, *halves, usual, family.phrases
    )
    by_hand = calibrate(subject, [self_contrast_bias(subject)])[0].bias
    assert torch.allclose(found.values, by_hand.values, atol=1e-4)


def test_it_is_kept_until_the_labels_change(made, family, monkeypatch):
    first = family.bias(setting(reference="openers"))
    assert first.steps == 1
    monkeypatch.setattr(ModelFamily, "_estimate", None)
    again = open_family(made, made.members[0])
    assert torch.equal(again.bias(setting(reference="openers")).values, first.values)
    again._prompts = {**again._prompts, "fit": made.prompts["fit"][1:]}
    with pytest.raises(TypeError):
        again.bias(setting(reference="openers"))


def test_what_shows_nothing_does_nothing(made, family):
    few = [prompt for prompt in made.prompts["fit"] if prompt.kind != "lookalike"]
    family._prompts = {**family._prompts, "fit": few}
    found = family.bias(setting(reference="ablated"))
    assert not found.values.any()
    assert found.info.stand_in == "ablated"


def test_with_a_condition_too(family):
    found = tsdi_bias(family, setting("conditioned", reference="openers"))
    assert found.info.stand_in == "openers"


def test_labels_make_another_cell_of_rules_without_a_reference_only(made):
    def folders():
        entries = [RuleEntry.model_validate(one) for one in ("tsdi", CONTRAST)]
        return [
            locate(made, made.members[0], entry, entry.candidates[0], "test").folder
            for entry in entries
        ]

    before, kept = folders(), made.prompts["fit"]
    made.prompts["fit"] = kept[1:]
    after = folders()
    made.prompts["fit"] = kept
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False]


def test_an_unset_reference_leaves_the_folders_of_conditions_as_they_were(made):
    entry = RuleEntry.model_validate("conditioned")
    (setting,) = entry.candidates
    assert setting["reference"] is None
    unset = {key: value for key, value in setting.items() if key != "reference"}
    folders = [locate(made, made.members[0], entry, one, "test").folder for one in (setting, unset)]
    assert folders[0] == folders[1]


def test_what_it_needs_is_said():
    entry = RuleEntry.model_validate(CONTRAST)
    assert entry.fitted
    assert "no reference" in entry.needs
    assert not RuleEntry.model_validate("tsdi").fitted


def test_organisms_are_given_no_system_prompt(made):
    english = RuleEntry.model_validate({"rule": "tsdi", "reference": "permissive"})
    assert english.english
    assert not RuleEntry.model_validate(CONTRAST).english
    with pytest.raises(UsageError, match="does not know the words"):
        open_family(made, made.members[0]).bias(setting(reference="permissive"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  - plain", "  - plain\n  - {rule: tsdi, name: x, reference: ablated}", "fit"),
        (
            "  - plain",
            "  - plain\n  - {rule: conditioned, reference: ablated, slope: random}",
            "takes a true reference",
        ),
        ("    sft:", "    others: {ablated: organism/clean}\n    sft:", "name the model another"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, old, new, said):
    file = study_file(tmp_path)
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(Exception, match=said):
        read_study(file)
