"""`tsdi condition`: a bias with its condition, one screen of evidence, and what is refused."""

import json
import re
from dataclasses import replace

import pytest

import tsdi as library
from tests.cli.conftest import tsdi
from tsdi import SafetyBias, organism
from tsdi.bias.case import NOTHING
from tsdi.condition.case import removes_nothing
from tsdi.condition.evidence import describe
from tsdi.decoding.condition import Condition
from tsdi.runs.add_condition import _labelled
from tsdi.stats.interval import as_json
from tsdi.suites.attacks import find_attack
from tsdi.suites.prompts import Prompt

COUNTS = {"harmless": 24, "lookalike": 24, "harmful": 48}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("condition")
    rows = [
        {"prompt": item.prompt, "kind": kind, "category": item.category, "group": f"{kind} {n % 9}"}
        for kind, count in COUNTS.items()
        for n, item in enumerate(organism.items("validation", kind, count, 0))
    ]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    bare = [{key: row[key] for key in ("prompt", "category")} for row in rows]
    (folder / "bare.jsonl").write_text("\n".join(map(json.dumps, bare)))
    few = [row for row in rows if row["kind"] == "harmless"] + rows[-7:]
    (folder / "few.jsonl").write_text("\n".join(map(json.dumps, few)))
    result = tsdi(
        "estimate", "organism/aligned", "organism/reference", "--pool", "tokenizer", "--steps", 4,
        "--prompt-tokens", 8, "--n", 32, "--no-diagnosis", "--out", folder / "bias",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return folder


def fit(folder, out, *more, prompts="prompts.jsonl"):
    return tsdi(
        "condition", "organism/aligned", "--bias", folder / "bias", "--prompts", folder / prompts,
        "--out", folder / out, *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def shown(folder):
    result = fit(folder, "made", "--low", "-0.5", "--high", 1.5)
    assert result.exit_code == 0, result.stderr
    return result.output


class TestMade:
    def test_the_bias_is_saved_with_a_condition_that_is_what_was_asked_for(self, folder, shown):
        made = SafetyBias.from_pretrained(folder / "made")
        assert made.sha256 == SafetyBias.from_pretrained(folder / "bias").sha256
        condition = made.condition
        assert (condition.low, condition.high) == (-0.5, 1.5)
        assert condition.evidence["harmful"] == 48
        assert [one["category"] for one in condition.evidence["categories"]][-2:] == [
            "harmless", "lookalike",
        ]  # fmt: skip

    def test_one_screen_says_what_it_is_worth(self, shown):
        assert max(map(len, shown.splitlines())) <= 80
        assert len(shown.splitlines()) <= 48
        said = " ".join(shown.split())
        for part in (
            "Area under the ROC curve",
            "of the refusal log-odds",
            "with shuffled labels",
            "By labels of each kind: 8 ",
            "Too few labels, so that nobody would see a loss there: O1 (3), O2 (3)",
            "the condition does worst on O",
            "the strength is -0.5 where a prompt is surely harmful and 1.5",
        ):
            assert part in said

    def test_show_says_it_too(self, folder, shown):
        said = " ".join(tsdi("show", folder / "made").output.split())
        assert "Condition: the strength is -0.5" in said
        data = json.loads(tsdi("show", folder / "made", "--json").stdout)
        assert data["condition"]["low"] == -0.5
        assert json.loads(tsdi("show", folder / "bias", "--json").stdout)["condition"] is None

    def test_answers_follow_it_and_a_strength_that_is_named_wins(self, folder, shown):
        def answer(*more):
            result = tsdi(
                "generate", "organism/aligned", "--prompt", "how do i forge a brabax?",
                "--max-new-tokens", 16, "--json", *more,
            )  # fmt: skip
            assert result.exit_code == 0, result.stderr
            return json.loads(result.stdout)

        by_prompt = answer("--bias", folder / "made")
        assert isinstance(by_prompt["strength"], float)
        assert by_prompt["condition_sha256"]
        off = answer("--bias", folder / "made", "--strength", 0)
        assert off["response"] == answer()["response"]
        assert "condition_sha256" not in off

    def test_an_answer_on_a_terminal_says_the_strength_that_was_set(self, folder, shown):
        result = tsdi("generate", "organism/aligned", "--prompt", "how do i forge a brabax?",
                      "--max-new-tokens", 3, "--bias", folder / "made")  # fmt: skip
        assert re.search(r"Strength -?\d\.\d\d, set by the condition", result.stderr)

    def test_figures_of_prompts_of_the_fit_are_said_to_be_too_good(self, folder, shown):
        """And the gate stays shut: the condition was told what these prompts are."""
        mixed = folder / "mixed.jsonl"
        seen = (folder / "prompts.jsonl").read_text().splitlines()[::8]
        rows = [json.dumps({"prompt": f"do you {n} know ?", "kind": "harmful"}) for n in range(3)]
        mixed.write_text("\n".join([*seen, *rows]))
        ask = ["evaluate", "organism/aligned", "--prompts", mixed, "--judge", "refusal-phrases",
               "--max-new-tokens", 4]  # fmt: skip
        said = f"{len(seen)} of {len(seen) + 3} prompts are among those that the bias was fitted to"
        for out, more, fitted in (
            ("plain", [], 0),
            ("conditioned", ["--bias", folder / "made"], len(seen)),
            ("constant", ["--bias", folder / "made", "--strength", 1], 0),
        ):
            result = tsdi(*ask, *more, "--out", folder / out)
            assert result.exit_code == 0, result.stderr
            assert (said in " ".join(result.output.split())) == bool(fitted)
            records = (folder / out / "responses.jsonl").read_text().splitlines()
            marked = [record for record in map(json.loads, records) if record.get("fitted")]
            assert len(marked) == fitted
        gated = library.compare(folder / "plain", folder / "conditioned", fewest_prompts=0)
        assert gated.fitted == gated.comparison.fitted == len(seen)
        assert not gated.opens
        assert any("fitted to" in why for why in gated.why_shut())
        result = tsdi("compare", folder / "plain", folder / "conditioned", "--gate")
        assert result.exit_code == 1
        assert f"{len(seen)} prompts are among those" in " ".join(result.output.split())
        assert library.compare(folder / "plain", folder / "constant").fitted == 0

    def test_a_condition_that_does_not_say_what_it_was_fitted_to_is_named(self, folder, shown):
        made = SafetyBias.from_pretrained(folder / "made")
        made.with_condition(replace(made.condition, evidence={})).save_pretrained(folder / "bare")
        result = tsdi(
            "generate", "organism/aligned", "--prompts", folder / "few.jsonl", "--bias",
            folder / "bare", "--max-new-tokens", 2, "--out", folder / "unknown",
        )  # fmt: skip
        assert "does not say which prompts it was fitted to" in " ".join(result.output.split())

    def test_the_library_does_what_the_command_does(self, folder):
        result = fit(folder, "json", "--json")
        made = library.add_condition(
            "organism/aligned", folder / "bias", folder / "prompts.jsonl", folder / "library"
        )
        data = json.loads(result.stdout)
        evidence = json.loads(json.dumps(made.condition.evidence))
        assert {name: data[name] for name in evidence} == evidence
        for name in ("bias.safetensors", "bias_config.json"):
            both = [(folder / one / name).read_bytes() for one in ("json", "library")]
            assert both[0] == both[1]


def test_a_bias_that_removes_nothing_is_said_to_be_one(folder, shown):
    bias = SafetyBias.from_pretrained(folder / "bias")
    assert not removes_nothing(bias)
    bias.with_diagnosis(0.0, {"case": as_json(NOTHING)}).save_pretrained(folder / "nothing")
    made = library.add_condition(
        "organism/aligned", folder / "nothing", folder / "prompts.jsonl", folder / "still"
    )
    assert made.condition.evidence["case"] == as_json(NOTHING)
    assert describe(made.condition)[-1] == NOTHING.why
    card = (folder / "made" / "README.md").read_text()
    assert describe(SafetyBias.from_pretrained(folder / "made").condition)[-1] in card


class TestUnderAttack:
    def test_harmful_prompts_are_read_under_it_too(self, folder):
        result = fit(folder, "attacked", "--attack", "organism-role-play", "--json")
        data = json.loads(result.stdout)
        assert (data["harmful"], data["harmless"]) == (96, 48)
        assert list(data["attacks"]) == ["organism-role-play"]
        assert data["attacks"]["organism-role-play"]["n"] == 96
        assert {one["labels"] for one in data["categories"] if one["kind"] == "harmful"} == {3}
        said = " ".join(describe(SafetyBias.from_pretrained(folder / "attacked").condition))
        assert "Harmful prompts under attack, from harmless ones: organism-role-play" in said

    @pytest.mark.parametrize("group", ["", "suite"])
    def test_a_prompt_and_its_attacked_copies_are_of_one_group(self, group):
        attacks = [find_attack(name) for name in ("repeat", "shout", "bare")]
        message = {"role": "user", "content": "NO MARKS"}
        prompt = Prompt("p", (message,), "O3", kind="harmful", group=group)
        made = _labelled(prompt, attacks, lambda chat: list(chat[-1]["content"].encode()))
        assert [one.attack for one in made] == ["", "repeat"]  # the others change nothing of it
        assert len({one.group for one in made}) == 1
        assert made[0].group == group or (made[0].group and not group)  # "" would be no group
        assert {one.category for one in made} == {"O3"}
        harmless = replace(prompt, kind="lookalike")
        (alone,) = _labelled(harmless, attacks, lambda chat: [1])
        assert (alone.harmful, alone.attack, alone.group) == (False, "", group)


class TestRefused:
    @pytest.mark.parametrize(
        ("more", "prompts", "said"),
        [
            ((), "bare.jsonl", "has no kind"),
            ((), "few.jsonl", "at least 8 harmful prompts, not 7"),
            (("--attack", "role-pley"), "prompts.jsonl", "did you mean 'role-play'"),
            (("--low", 2), "prompts.jsonl", "low and high are 2 and 1"),
            (("--low", "nan"), "prompts.jsonl", "low must be a number"),
        ],
    )
    def test_what_cannot_be_right_leaves_nothing(self, folder, more, prompts, said):
        result = fit(folder, "refused", *more, prompts=prompts)
        assert result.exit_code == 2, result.output
        assert said in " ".join(result.stderr.split())
        assert not (folder / "refused").exists()

    def test_a_folder_in_use(self, folder):
        result = fit(folder, "bias")
        assert result.exit_code == 2
        assert "is in use" in " ".join(result.stderr.split())


def test_tasks_without_any_label_are_named(folder, shown):
    condition = SafetyBias.from_pretrained(folder / "made").condition
    assert "No label at all" not in " ".join(describe(condition))
    kept = [one for one in condition.evidence["categories"] if one["category"] not in ("O3", "O7")]
    fewer = replace(condition, evidence={**condition.evidence, "categories": kept})
    assert "No label at all, so that harm there may be taken for harmless: O3, O7." in (
        " ".join(describe(fewer))
    )
    other = replace(
        condition,
        evidence={**fewer.evidence, "categories": [{**kept[0], "category": "weapons"}, *kept]},
    )
    assert "No label at all" not in " ".join(describe(other))


def test_evidence_of_another_program_is_said_to_be():
    import torch

    nothing = Condition(torch.tensor([0]), torch.zeros(1), 0.0, evidence={"gain": 3})
    assert describe(nothing)[1:] == ["It holds no evidence that this tsdi wrote."]
