"""The model card: what was measured, by whom, why this strength, and how to go on."""

import pytest

from tests import tiny
from tests.bias.made_figures import FIGURES, row
from tsdi.bias import SafetyBias

TUNING = {
    "trials": 12,
    "baseline": {"helpful": 0.5},
    "chosen": {"helpful": 0.75, "safety": {"all": 0.99, "O3": 0.9}},
    "floors": {"all": 0.9, "O3": 0.89},
}


def card(bias, folder):
    bias.save_pretrained(folder)
    return (folder / "README.md").read_text()


def test_figures_judge_weakest_category_and_gate(tmp_path):
    text = card(tiny.bias(strength=1.0).with_measured(FIGURES), tmp_path)
    row = "| complied, harmless | 0.100 [0.000, 0.200] | 0.600 [0.500, 0.700] |"
    assert row + " +0.500 [+0.400, +0.600] | 100 |" in text
    assert "Judged by `wildguard`, strength 1 for all prompts" in text
    assert "Weakest category: O3, 0.700 [0.600, 0.800]." in text
    assert "Safety gate: **shut**. Lost in O3" in text
    assert "under attack, too: `role-play`" in text


def test_an_open_gate_and_equal_categories_in_plain_words(tmp_path):
    rows = [row("O2", 0.9, 0.8), row("O3", 0.7, 0.8)]
    found = {**FIGURES, "categories": rows, "opens": True, "why_shut": []}
    text = card(tiny.bias(strength=1.0).with_measured(found), tmp_path)
    assert "All 2 categories are equal, debiased: 0.800. Safety gate: nothing lost beyond" in text
    assert "Weakest" not in text


def test_a_recommendation_that_the_verdict_ends_with_is_not_said_again(tmp_path):
    verdict = "It is so. Recommended strength: 1."
    bias = tiny.bias().with_diagnosis(1.0, {"strength": 1.0, "verdict": verdict})
    assert card(bias, tmp_path).count("Recommended strength") == 1
    tuned = card(bias.with_tuning(0.5, TUNING), tmp_path)
    assert "Recommended strength: 0.5." in tuned


@pytest.mark.parametrize(
    "changes",
    [{}, {"template_args": {"enable_thinking": False}}, {"prompt_format": "Q: {prompt}\nA:"}],
)
def test_its_python_runs_as_it_stands(changes, tmp_path, capsys):
    known = tiny.tokenizer(tiny.THINKING)
    for part in (tiny.model("llama"), known):
        part.save_pretrained(tmp_path / "model")
    bias = tiny.bias(known=known, aligned=str(tmp_path / "model"), **changes)
    text = card(bias, tmp_path / "bias")
    code = text.partition("```python\n")[2].partition("```")[0]
    exec(code.replace('"BIAS"', repr(str(tmp_path / "bias"))), {})
    assert capsys.readouterr().out.strip()
    assert "pypi.org" not in text
    assert "`pip install .`" in text


def test_without_figures_it_says_how_to_get_them(tmp_path):
    text = card(tiny.bias(), tmp_path)
    assert "--gate --card BIAS" in text
    assert "No strength is recommended" in text


def test_diagnosis_and_tuning(tmp_path):
    bias = tiny.bias(diagnosis={"verdict": "It is\nso."}, tuning=TUNING, strength=0.5)
    text = card(bias, tmp_path)
    assert "It is so." in text
    assert "12 settings on validation prompts. Helpful: 0.500 as it is, 0.750 chosen." in text
    assert "(in brackets): `O3` 0.900 (0.890), `all` 0.990 (0.900)." in text
    assert "Recommended strength: 0.5." in text


def test_provenance_use_and_tags(tmp_path):
    bias = tiny.bias(
        aligned="acme/safe@main", aligned_revision="c0ffee", versions={"torch": "2.9"}, seed=7
    )
    text = card(bias.scale(2), tmp_path)
    front = text.split("---")[1]
    for line in ("base_model: acme/safe", "library_name: tsdi", "- tsdi", "- over-refusal"):
        assert line in front
    for part in ("`acme/safe@main` at `c0ffee`", "seed 7", "Then: `scale 2`", "torch 2.9"):
        assert part in text
    for engine in ("--engine vllm", "--engine llama-cpp", "--to logit-bias", "tsdi reproduce BIAS"):
        assert engine in text


def test_a_condition_is_named_and_not_exported(tmp_path):
    text = card(tiny.bias().with_condition(tiny.condition(low=-1.0, high=2.0)), tmp_path)
    assert "-1 where it is surely harmful, 2 where" in text
    assert "--to logit-bias" not in text


def test_what_a_record_says_stays_text(tmp_path):
    bias = tiny.bias(aligned="a`b\n# <script>", diagnosis={"verdict": "<b>x</b>\n## y | z"})
    text = card(bias.with_measured({**FIGURES, "why_shut": ["<i>|\n# no"]}), tmp_path)
    for part in ("<b>", "<i>", "\n# <", "\n## y", "\n# no"):
        assert part not in text


@pytest.mark.parametrize("strength", [None, 0.5])
def test_commands_of_a_card_name_a_strength_where_none_is_recommended(tmp_path, strength):
    lines = card(tiny.bias(strength=strength), tmp_path).splitlines()
    commands = [line for line in lines if "| `tsdi " in line]
    assert len(commands) == 5
    assert {"--strength 1" in line for line in commands} == {strength is None}


def test_a_card_of_ours_is_made_anew_and_one_of_yours_is_kept(tmp_path):
    assert "Recommended strength: 1." in card(tiny.bias(strength=1.0), tmp_path)
    assert "Recommended strength: 0.5." in card(tiny.bias(strength=0.5), tmp_path)
    (tmp_path / "README.md").write_text("mine")
    assert card(tiny.bias(), tmp_path) == "mine"


@pytest.mark.parametrize(
    "change",
    [
        lambda bias: bias.scale(2),
        lambda bias: bias.with_tuning(0.5, {}),
        lambda bias: bias.with_diagnosis(0.5, {}),
        lambda bias: bias.with_condition(tiny.condition()),
    ],
)
def test_figures_of_another_setting_go(change, tmp_path):
    bias = tiny.bias(strength=1.0).with_measured(FIGURES)
    bias.save_pretrained(tmp_path)
    assert SafetyBias.from_pretrained(tmp_path).info.measured == FIGURES
    assert change(bias).info.measured == {}
