"""Win rates of a study's cells, by a pairwise judge behind an API."""

import pytest

from tests.evaluation.test_winrate import answers
from tests.fake_api import KEY, ok, serving
from tsdi.study.settings import JudgeSettings
from tsdi.study.win_rates import WinRates
from tsdi.suites.prompts import Prompt

KINDS = ("harmless", "lookalike", "harmful")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def longer(_number, body):
    """Prefers the longer of two answers."""
    text = body["messages"][0]["content"]
    first, second = (text.split(f"<<<ANSWER {side}>>>\n")[1].split("\n<<<END")[0] for side in "AB")
    return ok("C" if len(first) == len(second) else "A" if len(first) > len(second) else "B")


def test_wins_are_means_of_both_orders_and_none_for_harmful_prompts(tmp_path):
    base = answers(tmp_path / "base-0123456789", ["x" * 10] * 6)
    run = answers(tmp_path / "run", ["x" * n for n in (20, 5, 20, 5, 10, 5)])
    prompts = [
        Prompt(f"p{i}", ({"role": "user", "content": f"question {i}"},), "O1", "", KINDS[i % 3])
        for i in range(6)
    ]
    with serving(longer) as api:
        wins = WinRates(JudgeSettings(name="organism", pairwise="judge", pairwise_url=api.url))
        assert wins.asked_for
        assert wins.of(base, run, prompts) == [1.0, 0.0, None, 0.0, 0.5, None]
        asked = len(api.said)
        assert wins.of(base, run, prompts) == [1.0, 0.0, None, 0.0, 0.5, None]
        assert len(api.said) == asked  # kept on disk


def test_without_a_pairwise_judge_none_is_asked():
    assert not WinRates(JudgeSettings(name="organism")).asked_for
