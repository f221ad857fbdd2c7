import hashlib
import json
from dataclasses import replace

import pytest

from tests.fake_engine import FakeEngine
from tsdi.engines.base import Sampling
from tsdi.errors import FormatError, PromptError, RunExistsError, UsageError
from tsdi.runs.generate import generate_responses
from tsdi.runs.records import append_records, read_records
from tsdi.suites.prompts import Prompt

PROMPTS = [
    Prompt(f"p{n}", ({"role": "user", "content": f"question {n}"},), "O1", f"file, line {n + 1}")
    for n in range(10)
]
SAMPLING = Sampling(max_new_tokens=6, temperature=1.0, seed=5)


class Neighbourly(FakeEngine):
    """Its answers depend on the whole batch, as rounding makes a real model's do."""

    def __init__(self, calls_left=None):
        super().__init__()
        self.calls_left = calls_left

    def generate(self, requests, sampling):
        if self.calls_left == 0:
            raise KeyboardInterrupt
        self.calls_left = None if self.calls_left is None else self.calls_left - 1
        batch = " | ".join(request.messages[-1]["content"] for request in requests)
        return [
            replace(completion, text=f"{completion.text} in {batch}")
            for completion in super().generate(requests, sampling)
        ]


def run(out, engine=None, prompts=PROMPTS, sampling=SAMPLING, resume=False, **changes):
    options = {"batch_size": 4, "provenance": {"model": "fake"}} | changes
    return generate_responses(
        engine or Neighbourly(), prompts, out, sampling, resume=resume, **options
    )


@pytest.fixture
def unbroken(tmp_path):
    return run(tmp_path / "unbroken")


def test_every_prompt_is_answered_in_order_and_kept(tmp_path, unbroken):
    assert [record["id"] for record in unbroken] == [prompt.id for prompt in PROMPTS]
    assert read_records(tmp_path / "unbroken" / "responses.jsonl") == unbroken
    first = unbroken[0]
    assert list(first) == ["id", "category", "kind", "messages", "response", "tokens", "finish"]
    assert (first["category"], first["kind"]) == ("O1", "")
    assert first["messages"] == [{"role": "user", "content": "question 0"}]
    assert 1 <= first["tokens"] <= 6


@pytest.mark.parametrize("calls", range(4))
def test_a_run_killed_between_chunks_goes_on(tmp_path, unbroken, calls):
    if calls < 3:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", Neighbourly(calls))
    assert run(tmp_path / "run", resume=True) == unbroken
    assert read_records(tmp_path / "run" / "responses.jsonl") == unbroken


def test_a_run_killed_at_any_byte_goes_on(tmp_path, unbroken):
    data = (tmp_path / "unbroken" / "responses.jsonl").read_bytes()
    torn = tmp_path / "unbroken" / "responses.jsonl"
    for size in range(0, len(data), 13):
        torn.write_bytes(data[:size])
        assert run(tmp_path / "unbroken", resume=True) == unbroken
        assert torn.read_bytes() == data


def test_a_finished_run_generates_nothing_more(tmp_path, unbroken):
    assert run(tmp_path / "unbroken", Neighbourly(calls_left=0), resume=True) == unbroken


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json", "bias_config.json"])
def test_answers_are_not_put_into_a_model_or_a_bias(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(RunExistsError, match="not a run"):
        run(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("temperature", [1e-40, -1.0, 1e3, float("inf"), float("nan")])
def test_temperatures_at_which_nothing_can_be_drawn_are_refused(temperature):
    with pytest.raises(UsageError, match="greedy"):
        Sampling(temperature=temperature)


def test_a_used_folder_is_refused_and_left_alone(tmp_path, unbroken):
    with pytest.raises(RunExistsError, match=r"--resume, or use another --out"):
        run(tmp_path / "unbroken")
    assert read_records(tmp_path / "unbroken" / "responses.jsonl") == unbroken


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sampling": replace(SAMPLING, seed=6)}, "settings.seed was 5, is 6"),
        ({"batch_size": 5}, "settings.batch_size was 4, is 5"),
        ({"prompts": PROMPTS[:9]}, "prompts.count was 10, is 9.*prompts.sha256"),
        ({"prompts": PROMPTS[::-1]}, "prompts.sha256"),
        ({"prompts": [replace(PROMPTS[0], kind="harmful"), *PROMPTS[1:]]}, "prompts.sha256"),
        ({"provenance": {"model": "x"}}, "provenance.model was 'fake', is 'x'"),
        ({"provenance": {"model": "fake", "bias": "b"}}, "provenance.bias was None, is 'b'"),
    ],
)
def test_going_on_with_something_else_is_refused_by_name(tmp_path, unbroken, change, named):
    with pytest.raises(RunExistsError, match=named):
        run(tmp_path / "unbroken", resume=True, **change)
    assert read_records(tmp_path / "unbroken" / "responses.jsonl") == unbroken


def test_run_json_says_what_made_the_answers(tmp_path, unbroken):
    recorded = json.loads((tmp_path / "unbroken" / "run.json").read_text())
    assert recorded["settings"] == {
        "batch_size": 4,
        "max_new_tokens": 6,
        "temperature": 1.0,
        "seed": 5,
    }
    assert recorded["prompts"]["count"] == 10
    assert recorded["provenance"] == {"model": "fake"}
    assert set(recorded["versions"]) == {"tsdi", "torch", "transformers"}


def test_a_run_of_prompts_without_a_kind_goes_on_as_before_there_were_kinds(tmp_path, unbroken):
    folder = tmp_path / "unbroken"
    described = json.loads((folder / "run.json").read_text())
    before = json.dumps([[p.id, p.category, p.messages] for p in PROMPTS])
    assert described["prompts"]["sha256"] == hashlib.sha256(before.encode()).hexdigest()
    answers = [{k: v for k, v in record.items() if k != "kind"} for record in unbroken]
    (folder / "responses.jsonl").unlink()
    append_records(folder / "responses.jsonl", answers[:5])
    assert run(folder, resume=True) == [*answers[:5], *unbroken[5:]]


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"\xff"])
def test_answers_without_their_run_json_are_refused(tmp_path, unbroken, content):
    description = tmp_path / "unbroken" / "run.json"
    description.unlink() if content is None else description.write_bytes(content)
    with pytest.raises(FormatError, match=r"run\.json"):
        run(tmp_path / "unbroken", resume=True)


def test_a_prompt_beyond_the_context_is_named_before_anything_is_generated(tmp_path):
    long = Prompt("long", ({"role": "user", "content": "word " * 80},), "", "file, line 11")
    with pytest.raises(PromptError, match=r"file, line 11, prompt 'long': .*tokens"):
        run(tmp_path / "run", prompts=[*PROMPTS, long])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("prompts", [[], [*PROMPTS, PROMPTS[0]]])
def test_no_prompts_and_double_ids_are_refused(tmp_path, prompts):
    with pytest.raises(PromptError):
        run(tmp_path / "run", prompts=prompts)


def test_impossible_arguments_are_refused(tmp_path):
    with pytest.raises(UsageError, match="batch_size must be a whole number from 1 on, not 0"):
        run(tmp_path / "run", batch_size=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="another --out"):
        run(tmp_path / "file" / "run")


def test_progress_counts_the_answers(tmp_path):
    seen = []
    run(tmp_path / "run", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_a_record_says_that_its_answer_began_in_a_thought(tmp_path):
    class Thinking(FakeEngine):
        def generate(self, requests, sampling):
            return [replace(one, in_thought=True) for one in super().generate(requests, sampling)]

    assert all(record["in_thought"] is True for record in run(tmp_path / "run", Thinking()))
