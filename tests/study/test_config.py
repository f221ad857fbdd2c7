"""Study files: what they mean, and what is said of a wrong one."""

import re

import pytest
from pydantic import ValidationError

from tests import tiny
from tests.cli.conftest import tsdi
from tests.study.made import MODELS, study_file
from tsdi.study.config import RuleEntry, read_study
from tsdi.study.members import recipe
from tsdi.study.plan import plan
from tsdi.study.rules import RULES as KNOWN
from tsdi.study.settings import JudgeSettings, Organism


class TestRules:
    def test_a_name_alone_takes_every_default(self):
        entry = RuleEntry.model_validate("dera")
        assert (entry.name, entry.candidates) == ("dera", [{"weight": 0.5}])

    def test_lists_are_choices(self):
        entry = RuleEntry.model_validate(
            {"rule": "safe-decoding", "alpha": [1, 3], "steps": [2, 4]}
        )
        assert len(entry.candidates) == 4
        assert {one["common"] for one in entry.candidates} == {5}

    def test_every_rule_says_what_it_is(self):
        for rule in KNOWN.values():
            assert rule.title
            assert rule.source
            assert rule.needs
            assert rule.holds


def test_what_opens_an_api_is_used_and_not_written():
    url, pairwise = "https://me:secret@example.org/v1?token=secret", "http://secret@[::1]:80/v1"
    settings = JudgeSettings(name="llm-refusal=m", url=url, pairwise="m", pairwise_url=pairwise)
    assert (settings.url, settings.pairwise_url) == (url, pairwise)
    dumped = settings.model_dump()
    assert (dumped["url"], dumped["pairwise_url"]) == (
        "https://example.org/v1",
        "http://[::1]:80/v1",
    )
    assert "secret" not in settings.model_dump_json()
    with pytest.raises(ValidationError, match="URL is none"):
        JudgeSettings(name="llm-refusal=m", url="nowhere")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title:", "titel:", r"line 1, titel: there is no such key \(did you mean 'title'\?\)"),
        ("  - plain", "  - plane", r"line \d+, rules\.0: there is no rule 'plane' \(did you mean"),
        ("weight: [1.0", "wieght: [1.0", r"no parameter 'wieght' \(did you mean 'weight'\?\)"),
        ("attacks: [repeat]", "attacks: [repaet]", r"did you mean 'repeat'"),
        ("vary: steps", "vary: prompts", "of which no values are given"),
        ("  - plain\n", "", "lacks `plain`"),
        ("name: tuned,", "name: tsdi,", "two rules are called 'tsdi'"),
        ("models:", "organism: {seeds: [1], betas: [1], iterations: [1]}\nmodels:", "give either"),
        ("ks: [1, 2]", "ks: [0]", "greater than or equal to 1"),
        ("attacks: [repeat]", "attacks: [repeat, repeat]", "an attack stands twice"),
        ("ks: [1, 2]", "ks: []", "at least 1"),
        ("ks: [1, 2]", "ks: 3", r"a list, such as \[a, b\], is wanted"),
        ("ks: [1, 2]", "ks: [1]\nseed: -1", "greater than or equal to 0"),
        ("strength: [0, 0.5]", "strength: [-1]", "strength is 0 or more, not -1"),
        ("weight: [1.0, 0.25]", "weight: [true]", "neither yes nor no"),
        ("seed: [0, 1]", "seed: [.inf]", r"line \d+, models\.0\.grid\.seed.*finite"),
        ("strength: [0, 0.5]", f"strength: [{'9' * 400}]", r"rules.*strength.*too large"),
        ("judge: {name: organism}", "judge: &a {name: *a}", "contains itself"),
        ("name: step{iterations}", "name: '../step{iterations}'", "Take letters, digits"),
        ("name: step{iterations}", "name: 'step{iterations.x}'", "cannot be filled in"),
        ("ks: [1, 2]", "ks: [3]", "No front of 3 points can be made of 2"),
        ("  - plain", "  - {rule: plain, name: base}", "lacks `plain` under its own name"),
        ("  - tsdi\n", "", "lacks `tsdi`"),
        ("weight: [1.0, 0.25]", "weight: []", "no value for 'weight'"),
        ("weight: [1.0, 0.25]", "weight: [half]", "dera's weight is a number, not 'half'"),
        ("steps: [1, 4]", "steps: [0, 4]", "whole number from 1 on, not 0"),
        ("strength: [0, 0.5]", "decay: [1.5]", "decay is between 0 and 1"),
        ("strength: [0, 0.5]", "template: [witout]", "one of with, without, not 'witout'"),
        ("steps: [1, 4], vary", "steps: [1, 4], strength: [0, 1], vary", "beside `vary` every"),
        ("constant: [0, 3]}", "constant: [0, 3], vary: constant}", "changes another"),
        ("seed: [0, 1]", "seed: []", "at least 1"),
        (
            "attacks:",
            "validation_seeds: [7]\nattacks:",
            r"is \[7\], the models' seeds are \[0, 1\]",
        ),
        ("attacks:", "validation_seeds: [0, 1]\nattacks:", "leave one to report"),
        ("weight: [1.0, 0.25]", "weight: [1.0, 0.5, 0.25]", r"different numbers.*tuned 2.*dera 3"),
        ("weight: [1.0, 0.25]", "weight: [0.5, 0.25]", "dera lack weight 1, which leaves the mod"),
        (
            "attacks: [repeat]",
            "attacks: [repeat, base64]",
            "attack base64 is not applicable: the m",
        ),
        ("judge: {name", "judge: {name: a, nmae", "there is no such key"),
        ("ks: [1, 2]", "ks: [yes]", r"line \d+, ks: a number is wanted here, neither yes nor no"),
        ("max_new_tokens: 16", "max_new_tokens: on", r"max_new_tokens: a number is wanted here"),
        ("seed: [0, 1]", "seed: [no, 1]", r"models\.0\.grid: a number is wanted here"),
        ("seed: [0, 1]", "seed: [1.5]", r"models\.0\.grid: seed is a whole number.* not 1\.5"),
        ("seed: [0, 1]", "seed: [-1]", r"models\.0\.grid: seed is a whole number.* not -1"),
        ("weight: [1.0, 0.25]", "weight: [1.0, 1]", "weight has a value twice"),
        (
            "  - plain",
            "  - plain\n  - conditioned",
            "conditioned is fitted to labelled prompts.*`fit`",
        ),
        (
            "- {rule: dera,",
            "- {rule: conditioned, low: 2}\n  - {rule: dera,",
            "low is 2, above its",
        ),
        (
            "- {rule: dera,",
            "- {rule: conditioned, width: 0}\n  - {rule: dera,",
            "is above 0, not 0",
        ),
        (
            "- {rule: dera,",
            "- {rule: conditioned, sees: [top]}\n  - {rule: dera,",
            "one of all, top",
        ),
        (
            "{load: test.jsonl}",
            "{load: test.jsonl, limit: {harmful: yes}}",
            r"test\.0\.limit: a number is wanted here",
        ),
    ],
)
def test_a_wrong_file_is_told_by_line_and_key(tmp_path, old, new, said):
    file = study_file(tmp_path)
    file.write_text(file.read_text().replace(old, new))
    result = tsdi("study", file, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert re.search(said, result.stderr), result.stderr
    assert not (tmp_path / "out").exists()


class TestModels:
    def test_missing_ones_are_all_named(self, tmp_path):
        file = study_file(tmp_path, models=MODELS.replace("path: models/", "path: ./nowhere/"))
        result = tsdi("study", file, "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert "4 of 5 models are missing: ./nowhere/seed0-step1, ./nowhere/seed0" in result.stderr

    def test_names_that_are_neither_folders_nor_on_the_hub_are_all_named(self, tmp_path):
        models = MODELS.replace("path: models/", "path: safe-").replace("sft: organism/", "sft: ")
        result = tsdi("study", study_file(tmp_path, models=models), "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert "5 of 6 models are missing: reference, safe-seed0-step1" in result.stderr
        assert str(tmp_path) in result.stderr

    def test_a_folder_of_models_that_is_not_there_is_told(self, tmp_path):
        result = tsdi("study", study_file(tmp_path), "--out", tmp_path / "o", "--models", "nowhere")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert "There is no folder nowhere" in result.stderr

    def test_mixed_tokenizers_are_told_apart(self, tmp_path):
        tiny.model("llama").save_pretrained(tmp_path / "other")
        tiny.tokenizer().save_pretrained(tmp_path / "other")
        models = MODELS.replace("reference: organism/reference", "reference: other")
        result = tsdi("study", study_file(tmp_path, models=models), "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert "do not go together" in result.stderr
        assert "other" in result.stderr

    def test_a_wrong_prompt_format_is_refused(self, tmp_path):
        for wrong in ('"Q:"', '"{prompt} {prompt}"', '"Q: {prompt}", template_args: {a: 1}'):
            file = study_file(tmp_path)
            new = f"generation: {{prompt_format: {wrong}, "
            file.write_text(file.read_text().replace("generation: {", new))
            result = tsdi("study", file, "--out", tmp_path / "out")
            assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
            assert "prompt format" in result.stderr

    def test_a_rule_that_lacks_a_model_is_refused(self, tmp_path):
        models = MODELS.replace("    sft: organism/reference\n", "")
        result = tsdi("study", study_file(tmp_path, models=models), "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert "names no sft model" in result.stderr

    def test_a_grid_with_holes_is_refused(self, tmp_path):
        more = "  - {name: lone, path: models/seed0-step1, reference: organism/reference, seed: 0,"
        models = f"{MODELS}{more} sft: organism/reference}}\n"
        result = tsdi("study", study_file(tmp_path, models=models), "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert "no model lone of seed 1" in result.stderr

    def test_models_of_a_seed_with_other_references_are_refused(self, tmp_path):
        text = (
            "  - {name: lone, path: models/seedSEED-step1, reference: organism/clean, seed: SEED,"
        )
        more = "".join(text.replace("SEED", str(n)) + " sft: organism/reference}\n" for n in (0, 1))
        result = tsdi("study", study_file(tmp_path, models=MODELS + more), "--out", tmp_path / "o")
        assert result.exit_code == 2
        assert "one reference model for each seed" in result.stderr

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("seed{seed}-step", "seed0-step", "Seeds 0 and 1 are one model"),
            ("reference: organism/reference", "reference: models/seed0-step2", "its own reference"),
        ],
    )
    def test_one_model_is_no_two_trainings_and_not_its_own_reference(
        self, tmp_path, old, new, said
    ):
        models = MODELS.replace(old, new, 1)
        result = tsdi("study", study_file(tmp_path, models=models), "--out", tmp_path / "out")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert said in result.stderr

    def test_a_pattern_that_cannot_be_filled_in_is_told(self, tmp_path):
        models = MODELS.replace("step{iterations}\n    path", "step{iteration}\n    path")
        result = tsdi("study", study_file(tmp_path, models=models), "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert "{iterations}" in result.stderr

    def test_an_unknown_main_is_told(self, tmp_path):
        file = study_file(tmp_path, more="main: step3")
        result = tsdi("study", file, "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert "did you mean 'step" in result.stderr


class TestOrganisms:
    def test_shares_of_annotators_are_a_key_of_the_grid(self, tmp_path):
        one = Organism(seeds=[1], betas=[0.1], iterations=[2], annotators=0.3)
        several = Organism(seeds=[1], betas=[0.1, 0.2], iterations=[2, 4], annotators=[0, 0.5])
        assert one.annotators == (0.3,)
        names = [run.names() for run in recipe(several).grid]
        assert len(names) == 4
        assert names[0] == {2: "annotators0-beta0.1-step2", 4: "annotators0-beta0.1-step4"}

    def test_models_are_named_by_what_varies(self, tmp_path):
        def named(annotators):
            file = study_file(tmp_path)
            text = file.read_text()
            start, end = text.index("models:"), text.index("prompts:")
            grid = f"seeds: [1, 2], betas: [0.1], iterations: [1], annotators: {annotators}"
            file.write_text(f"{text[:start]}organism: {{{grid}}}\n{text[end:]}".replace(
                "ks: [1, 2]", "ks: [1]"))  # fmt: skip
            made = plan(read_study(file), tmp_path, tmp_path, tmp_path / "out")
            return {(m.name, m.annotators) for m in made.members}

        assert named(0.5) == {("beta0.1-step1", 0.5)}
        assert named("[0, 0.5]") == {
            ("annotators0-beta0.1-step1", 0.0),
            ("annotators0.5-beta0.1-step1", 0.5),
        }


class TestPrompts:
    def test_a_share_can_be_put_aside_for_validation(self, tmp_path):
        file = study_file(tmp_path)
        text = file.read_text().replace(
            "validation: [{load: validation.jsonl}]", "validation_share: 0.4"
        )
        file.write_text(text)
        made = plan(read_study(file), tmp_path, tmp_path, tmp_path / "out")
        texts = [
            {p.messages[-1]["content"] for p in made.prompts[s]} for s in ("validation", "test")
        ]
        assert not texts[0] & texts[1]
        assert len(texts[0] | texts[1]) == 32
        assert 4 <= len(texts[0]) <= 22

    def test_short_prompts_are_answered_first(self, tmp_path):
        made = plan(read_study(study_file(tmp_path)), tmp_path, tmp_path, tmp_path / "out")
        for split in ("validation", "test"):
            lengths = [len(prompt.messages[-1]["content"]) for prompt in made.prompts[split]]
            assert len(set(lengths)) > 1
            assert lengths == sorted(lengths)

    def test_prompts_of_both_splits_are_refused(self, tmp_path):
        file = study_file(tmp_path)
        file.write_text(file.read_text().replace("load: validation.jsonl", "load: test.jsonl"))
        result = tsdi("study", file, "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert "a validation prompt and a test prompt" in result.stderr

    def test_labels_that_conditions_are_fitted_to_are_no_prompts_of_another_split(self, tmp_path):
        file = study_file(tmp_path)
        text = file.read_text()
        for split in ("validation", "test"):
            fit = f"prompts:\n  fit: [{{load: {split}.jsonl}}]"
            file.write_text(text.replace("prompts:", fit, 1))
            result = tsdi("study", file, "--out", tmp_path / "out")
            assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
            assert f"'p0001' is a fit prompt and a {split} prompt" in result.stderr

    def test_labels_that_are_too_few_for_a_fit_are_refused(self, tmp_path):
        file = study_file(tmp_path)
        few = '{load: "organism:fit", seed: 1, limit: {harmful: 7, harmless: 8}}'
        file.write_text(file.read_text().replace("prompts:", f"prompts:\n  fit: [{few}]", 1))
        result = tsdi("study", file, "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert "at least 8 harmful prompts, not 7" in result.stderr

    def test_harmful_prompts_alone_are_refused(self, tmp_path):
        file = study_file(tmp_path)
        (tmp_path / "test.jsonl").write_text('{"prompt": "x", "kind": "harmful"}')
        result = tsdi("study", file, "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert "safety is shown beside helpfulness" in result.stderr

    def test_limits_take_every_category_alike(self, tmp_path):
        file = study_file(tmp_path)
        limit = "limit: {harmless: 2, lookalike: 3, harmful: 4}"
        file.write_text(file.read_text().replace("load: test.jsonl", f"load: test.jsonl, {limit}"))
        made = plan(read_study(file), tmp_path, tmp_path, tmp_path / "out")
        kinds = [prompt.kind for prompt in made.prompts["test"]]
        assert [kinds.count(k) for k in ("harmless", "lookalike", "harmful")] == [2, 3, 4]
        harmful = [p.category for p in made.prompts["test"] if p.kind == "harmful"]
        assert len(set(harmful)) == 4
