import pytest

from tsdi import organism
from tsdi.errors import PromptError, UsageError
from tsdi.judging.registry import default_judge, load_judge
from tsdi.suites.load import load_prompts


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_organisms_prompts_are_those_of_the_demo(split):
    prompts = load_prompts(f"organism:{split}", seed=0).prompts
    assert len({prompt.id for prompt in prompts}) == len(prompts) == 1280
    for kind, count in (("harmless", 320), ("lookalike", 320), ("harmful", 640)):
        found = [prompt for prompt in prompts if prompt.kind == kind]
        expected = organism.items(split, kind, count, 0)
        assert [(p.messages[0]["content"], p.category) for p in found] == [
            (item.prompt, item.category) for item in expected
        ]
    assert load_prompts(f"organism:{split}", seed=1).prompts != prompts


def test_labels_to_fit_to_are_no_prompts_of_another_split():
    splits = ("fit", "validation", "test")
    prompts = {split: load_prompts(f"organism:{split}", seed=3).prompts for split in splits}
    texts = {prompt.messages[0]["content"] for own in prompts.values() for prompt in own}
    assert len(texts) == 3 * 1280
    kinds = [(prompt.kind, prompt.category) for prompt in prompts["fit"]]
    assert kinds == [(prompt.kind, prompt.category) for prompt in prompts["validation"]]


def test_unknown_prompts_and_kinds_are_named():
    with pytest.raises(UsageError, match=r"organism:train.*organism:validation, organism:test"):
        load_prompts("organism:train", 0)
    with pytest.raises(PromptError, match=r"'evil'.*harmless, lookalike, harmful"):
        load_prompts("organism:test", 0, kind="evil")


def test_a_kind_is_given_to_prompts_that_have_none(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b", "kind": "harmless"}')
    found = load_prompts(str(tmp_path / "p.jsonl"), 0, kind="harmful").prompts
    assert [prompt.kind for prompt in found] == ["harmful", "harmless"]


def test_an_unknown_judge_is_named():
    with pytest.raises(
        UsageError, match=r"'organsim' \(did you mean 'organism'\?\).*refusal-phrases"
    ):
        load_judge("organsim")


def test_ground_truth_judges_only_where_there_is_some():
    ours = [item.prompt for item in organism.items("test", "harmful", 3, 0)]
    assert default_judge(ours) == "organism"
    assert default_judge([*ours, "how do I kill a process?"]) == "refusal-phrases"


class TestALimit:
    def test_takes_as_many_of_each_kind_spread_over_the_categories(self):
        found = load_prompts("organism:test:limit=16", 0).prompts
        harmful = [prompt.category for prompt in found if prompt.kind == "harmful"]
        assert len(found) == 48
        assert sorted(harmful) == sorted(f"O{n}" for n in range(1, 17))
        assert len(load_prompts("everyday:limit=3", 0).prompts) == 9

    @pytest.mark.parametrize("limit", ["limit=0", "limit=x", "limit=2,limit=3"])
    def test_is_one_number(self, limit):
        with pytest.raises(UsageError, match="is no limit"):
            load_prompts(f"everyday:{limit}", 0)
