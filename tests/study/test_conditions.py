"""Rules with a condition, on the shipped models: what they are fitted to, and what they do."""

import pytest
import torch

from tests.study.made import study_file
from tsdi.engines.base import Request, Sampling
from tsdi.study.cells import cell_folder
from tsdi.study.config import RuleEntry, read_study
from tsdi.study.grid import Job, locate, open_family
from tsdi.study.plan import plan
from tsdi.study.rule_engines import build
from tsdi.study.rules import RULES

FIT = '{load: "organism:fit", seed: 1, limit: {harmless: 24, lookalike: 24, harmful: 48}}'
STRENGTHS = {"low": -0.5, "high": 1.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    file = study_file(folder)
    file.write_text(file.read_text().replace("prompts:", f"prompts:\n  fit: [{FIT}]", 1))
    return plan(read_study(file), folder, folder, folder / "out")


@pytest.fixture(scope="module")
def family(made):
    return open_family(made, made.members[0])


def setting(rule, **given):
    return {**RULES[rule].parameters, **given}


def logits(family, made, rule, **given):
    """Of the first token of every test prompt's answer, and which prompts are harmful."""
    engine = build(rule, family, setting(rule, **given))
    prompts = made.prompts["test"]
    requests = [Request(prompt.messages) for prompt in prompts]
    answers = engine.generate(requests, Sampling(max_new_tokens=1, keep_logits=True))
    found = torch.stack([answer.logits[0] for answer in answers])
    return found, torch.tensor([prompt.kind == "harmful" for prompt in prompts])


@pytest.fixture(scope="module")
def plain(family, made):
    return logits(family, made, "plain")[0]


def test_tsdi_is_subtracted_from_harmless_prompts_and_added_to_harmful_ones(family, made, plain):
    found, harmful = logits(family, made, "conditioned", **STRENGTHS, strength=2.0)
    bias = family.bias({}).values[0]
    strength = (plain - found) @ bias / (bias @ bias)
    assert float(strength[harmful].median()) == pytest.approx(-1, abs=0.1)
    assert float(strength[~harmful].median()) == pytest.approx(2, abs=0.1)
    assert -1.01 < strength.min() < strength.max() < 2.01


def test_a_bias_of_first_order_leaves_harmful_prompts_as_they_are(family, made, plain):
    found, harmful = logits(family, made, "first-order")
    change = (found - plain)[:, family.openers[1]].mean(1)
    assert float(change[~harmful].mean()) > float(change[harmful].mean()) + 0.5
    assert family.bias(setting("first-order")).slope.evidence["harmful"] == 48
    assert family.bias(setting("first-order", slope="random")).slope.evidence["harmful"] == 0


def test_it_goes_with_a_condition(family, made):
    one, _ = logits(family, made, "first-order", strength=0.5)
    both, _ = logits(family, made, "conditioned", slope="labelled", low=0.5, high=0.5)
    torch.testing.assert_close(one, both)


def test_a_constant_has_the_same_condition(family, made, plain):
    found, harmful = logits(family, made, "conditioned-openers", **STRENGTHS, constant=-3.0)
    moved = (found - plain)[:, family.openers[0]]
    assert float(moved[harmful].median()) == pytest.approx(1.5, abs=0.1)
    assert float(moved[~harmful].median()) == pytest.approx(-3, abs=0.1)
    others = [n for n in range(plain.shape[1]) if n not in family.openers[0]]
    assert torch.equal(found[:, others], plain[:, others])


@pytest.mark.parametrize("rule", ["reference-refuser", "merge-refuser"])
def test_a_refuser_refuses_what_its_own_model_takes_for_harmful(family, made, rule):
    given = {"weight": 0.25} if rule == "merge-refuser" else {}
    found, harmful = logits(family, made, rule, constant=8.0, **given)
    before, _ = logits(family, made, rule, constant=0.0, **given)
    moved = (found - before)[:, family.openers[0]]
    assert float(moved[harmful].median()) == pytest.approx(6 if given else 8, abs=0.5)
    assert float(moved[~harmful].median()) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if rule.fitted])
def test_what_changes_nothing_changes_nothing(family, made, rule):
    found, _ = logits(family, made, rule, **RULES[rule].nothing)
    usual, _ = logits(family, made, "plain" if RULES[rule].of == "aligned" else "reference")
    # A merge reads its prompts anew, in one piece, which rounds otherwise.
    torch.testing.assert_close(found, usual, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("other", "tells"),
    [({"labels": "shuffled"}, False), ({"sees": "top-20"}, True), ({"sees": "log-odds"}, True)],
)
def test_controls_have_conditions_of_their_own(family, made, plain, other, tells):
    def strength(**more):
        asked = setting("conditioned", **STRENGTHS, **more)
        return family.conditions.of("aligned", family.model("aligned"), asked).strength(plain)

    control = strength(**other)
    assert not torch.equal(control, strength())
    harmful = torch.tensor([prompt.kind == "harmful" for prompt in made.prompts["test"]])
    apart = float(control[~harmful].median() - control[harmful].median())
    assert (apart > 0.5) == tells


def test_a_threshold_moves_where_the_strength_changes(family, made, plain):
    def strength(**more):
        asked = setting("conditioned", **STRENGTHS, **more)
        return family.conditions.of("aligned", family.model("aligned"), asked).strength(plain)

    assert torch.equal(strength(threshold=0.0), strength())
    assert float((strength(threshold=-1e4) - STRENGTHS["low"]).abs().max()) < 1e-4
    assert bool((strength(threshold=-1.0) <= strength()).all())


def test_cells_of_before_there_were_thresholds_are_known(made):
    entry = RuleEntry.model_validate({"rule": "conditioned", **STRENGTHS})
    (now,) = entry.candidates
    before = {key: value for key, value in now.items() if key != "threshold"}
    folders = [cell_folder(made.out, ("test",), {}, entry, one) for one in (now, before)]
    assert folders[0] == folders[1]
    assert folders[0] != cell_folder(made.out, ("test",), {}, entry, {**now, "threshold": -1.0})


def test_each_model_is_read_once(family, made, monkeypatch):
    logits(family, made, "conditioned")
    monkeypatch.setattr("tsdi.study.conditions.read_labelled", None)
    monkeypatch.setattr("tsdi.study.conditions.fit_direction", None)
    logits(family, made, "conditioned", **STRENGTHS)


def test_other_labels_make_another_cell_of_rules_with_a_condition_only(made):
    def cells(rule):
        entry = RuleEntry.model_validate(rule)
        return locate(made, made.members[0], entry, entry.candidates[0], "test").folder

    before = [cells("tsdi"), cells("conditioned")]
    kept = made.prompts["fit"]
    made.prompts["fit"] = kept[1:]
    after = [cells("tsdi"), cells("conditioned")]
    made.prompts["fit"] = kept
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False]


def test_their_settings_are_chosen_and_tested_like_any_others(made):
    entry = RuleEntry.model_validate({"rule": "conditioned", "strength": [0, 2], **STRENGTHS})
    made.out.mkdir(exist_ok=True)
    Job(made, made.members[0]).run(entry)
    names = [folder.name for folder in made.out.rglob("conditioned_*")]
    assert sum("_validation_" in name for name in names) == 2
    assert sum("_test_" in name for name in names) == 1
