"""Policies of one's own, for gpt-oss-safeguard, Granite Guardian and question."""

import pytest

from tests.fake_api import KEY, ok, serving
from tests.judging.judge_models import response
from tsdi.errors import UsageError
from tsdi.judging.base import JudgeOptions
from tsdi.judging.policy import Question, Safeguard
from tsdi.judging.registry import load_judge
from tsdi.judging.verdict import Verdict

POLICY = "You review recipes.\nBe strict.\n\nIs the bread in this response raw?"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def opened(name, path, url="http://127.0.0.1:9/v1"):
    return load_judge(name, JudgeOptions(url=url, policy=path))


def test_a_policy_is_the_system_message_of_safeguard(tmp_path):
    path = tmp_path / "policy.md"
    path.write_text(POLICY)
    with serving(lambda *_: ok("1")) as api:
        (judgement,) = opened("gpt-oss-safeguard", path, api.url).judge([response("raw", "bread?")])
    assert judgement.verdict is Verdict.UNSAFE
    system, user = api.requests[0]["messages"]
    assert system == {"role": "system", "content": POLICY}
    assert "<<<PROMPT>>>\nbread?\n" in user["content"]
    assert "<<<ANSWER>>>\nraw\n" in user["content"]


def test_a_policy_is_what_a_question_is_about_and_its_last_line(tmp_path):
    path = tmp_path / "policy.md"
    path.write_text(POLICY + "\n")
    with serving(lambda *_: ok("no", top={"no": -0.1, "yes": -3.0})) as api:
        (judgement,) = opened("question=m", path, api.url).judge([response("raw", "bread?")])
    assert judgement.verdict is Verdict.SAFE
    assert 0 < judgement.probability < 0.1
    assert api.requests[0]["messages"][1]["content"] == (
        "<Instruct>: You review recipes.\nBe strict.\n\n"
        "<Query>: Is the bread in this response raw?\n\n"
        "<Document>: [User]\nbread?\n\n[Assistant]\nraw"
    )


def test_a_policy_is_the_criterion_of_granite_guardian(tmp_path):
    path = tmp_path / "policy.md"
    path.write_text("The text is about raw bread.")
    with serving(lambda *_: ok("<think>\n</think>\n<score> yes </score>")) as api:
        (judgement,) = opened("granite-guardian", path, api.url).judge([response("raw", "bread?")])
    assert judgement.verdict is Verdict.UNSAFE
    asked, said, block = api.requests[0]["messages"]
    assert (asked["content"], said["content"]) == ("bread?", "raw")
    assert (said["role"], block["role"]) == ("assistant", "user")
    assert block["content"].startswith("<guardian><no-think>As a judge agent")
    assert "\n\n### Criteria: The text is about raw bread.\n\n###" in block["content"]


def test_another_policy_is_another_judge(tmp_path):
    path = tmp_path / "policy.md"
    path.write_text(POLICY)
    for name, form in (("gpt-oss-safeguard", Safeguard), ("question=m", Question)):
        own, ours = opened(name, path).describe(), opened(name, None).describe()
        assert own["chat_sha256"] == form(POLICY).describe()["chat_sha256"]
        assert own["chat_sha256"] != ours["chat_sha256"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("question=m", "You review bread.\nSay whether it is raw.", "does not end with a question"),
        ("question=m", "Is it raw?", "does not end with a question"),
        ("question=m", "Look at {answer}.\nIs it raw?", "has places for prompt and answer"),
        ("gpt-oss-safeguard", " \n", "is empty"),
        ("gpt-oss-safeguard", b"\xff\xfe\xfa", "Cannot read"),
        ("gpt-oss-safeguard", None, "Cannot read"),
        ("refusal-phrases", "x", "policy needs a judge of one"),
    ],
)
def test_policies_that_cannot_be_used(name, text, words, tmp_path):
    path = tmp_path / "policy.md"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=words) as caught:
        load_judge(name, JudgeOptions(policy=path))
    assert "\n" not in str(caught.value)
