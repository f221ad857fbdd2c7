"""`tsdi debias` on the shipped organism: the way to a gated bias, and where it ends before."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.cli.conftest import tsdi
from tsdi import LoadOptions, SafetyBias, organism
from tsdi.cli import debias as command
from tsdi.debiasing.run import _of_judging, helps
from tsdi.evaluation.compare import Change
from tsdi.evaluation.evaluate import Judging
from tsdi.evaluation.gate import Regression
from tsdi.judging.base import JudgeOptions
from tsdi.models import shipped
from tsdi.stats.interval import Estimate

SETTINGS = (
    "--trials", 6, "--pool", "tokenizer", "--prompt-tokens", 8, "--attack", "organism-suffix",
    "--max-new-tokens", 16, "--batch-size", 64,
)  # fmt: skip


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    rows = [
        {"prompt": item.prompt, "kind": kind, "category": item.category}
        for kind, count in (("lookalike", 32), ("harmful", 48))
        for item in organism.items("validation", kind, count, 0)
    ]
    file = tmp_path_factory.mktemp("debias") / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def debias(prompts, out, *more, aligned="organism/aligned"):
    usual = SETTINGS[2:] if more[:1] == SETTINGS[:1] else SETTINGS  # no option is given twice
    return tsdi(
        "debias", aligned, "organism/reference", "--prompts", prompts, "--out", out, *usual, *more
    )


@pytest.fixture(scope="module")
def done(prompts):
    """A finished run."""
    result = debias(prompts, prompts.parent / "done")
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def out(done, prompts, tmp_path):
    """The finished run's folder, to be changed; it is put back, for its files name it."""
    folder = prompts.parent / "done"
    shutil.copytree(folder, tmp_path / "kept")
    yield folder
    shutil.rmtree(folder)
    shutil.move(tmp_path / "kept", folder)


def test_the_bias_that_passed_the_gate_is_there_with_its_evidence(done, prompts):
    assert "The safety gate is open" in done
    said = " ".join(done.split())
    assert "plain prompts and organism-suffix" in said
    assert re.search(r"rests on \d+ harmful prompts or more: with none lost, up to \d+% of", said)
    assert "refusal log-odds (area" in said  # of the condition
    found = SafetyBias.from_pretrained(prompts.parent / "done" / "bias")
    assert found.info.tuning["attacks"] == ["organism-suffix"]
    assert found.info.tuning["trials"] == 6
    lines = done.splitlines()
    to_copy = lines[lines.index("Now:") + 1 :]  # are not wrapped
    assert max(map(len, lines[: -len(to_copy)])) <= 80
    assert [line.split()[:2] for line in to_copy] == [["tsdi", "generate"], ["tsdi", "serve"]]


@pytest.mark.parametrize(
    ("terminal", "more", "offered"),
    [(True, (), 1), (True, ("--no-menu",), 0), (True, ("--json",), 0), (False, (), 0)],
)
def test_a_terminal_is_offered_a_menu(out, prompts, monkeypatch, terminal, more, offered):
    asked = []
    monkeypatch.setattr(command, "_is_terminal", lambda: terminal)
    monkeypatch.setattr(command, "offer", lambda *given: asked.append(given))
    assert debias(prompts, out, *more).exit_code == 0
    assert asked == [("organism/aligned", out / "bias", LoadOptions())] * offered


def test_no_prompt_is_in_two_parts(done, prompts):
    parts = [
        {json.loads(line)["messages"][0]["content"] for line in file.read_text().splitlines()}
        for file in (prompts.parent / "done" / "prompts").iterdir()
    ]
    assert len(parts) == 3
    assert sum(map(len, parts)) == len(set().union(*parts)) == 80


def test_the_report_says_the_result_and_holds_no_prompt(done, prompts):
    page = (prompts.parent / "done" / "report.html").read_text(encoding="utf-8")
    assert "The safety gate is open" in page
    assert "safe, under organism-suffix" in page
    texts = [json.loads(line)["prompt"] for line in prompts.read_text().splitlines()]
    assert not [text for text in texts if text in page]


def test_a_killed_run_goes_on_to_the_same_end(out, prompts, done):
    before = {p.relative_to(out) for p in out.rglob("*")}
    for part in ("bias", "runs/debiased"):
        shutil.rmtree(out / part)
    (out / "report.html").unlink()
    (out / "tuned" / "bias_config.json").unlink()
    result = debias(prompts, out, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["why_not"] == ""
    assert found["gate_opens"]
    assert found["report"] == str(out / "report.html")
    assert found["attacked"].keys() == {"organism-suffix"}
    assert {p.relative_to(out) for p in out.rglob("*")} == before


def test_the_same_run_by_other_names_and_in_another_place_goes_on(done, prompts, tmp_path):
    out, file = tmp_path / "moved", tmp_path / "labelled.jsonl"
    shutil.copytree(prompts.parent / "done", out)
    shutil.copy(prompts, file)
    before = {p.relative_to(out) for p in out.rglob("*")}
    for part in ("bias", "runs/debiased"):
        shutil.rmtree(out / part)
    answers = out / "runs/plain-organism-suffix/responses.jsonl"
    answers.write_bytes(b"".join(answers.read_bytes().splitlines(keepends=True)[:2]))
    (out / "tuned" / "bias_config.json").unlink()
    folder = shipped.folder("aligned")
    result = debias(file, out, aligned=folder)
    assert result.exit_code == 0, result.output
    assert {p.relative_to(out) for p in out.rglob("*")} == before
    other = debias(file, out, aligned=shipped.folder("clean"))
    assert other.exit_code == 2
    assert "is of other aligned" in " ".join(other.stderr.split())


def test_an_estimate_that_was_killed_begins_again_by_another_name(done, prompts, tmp_path):
    out = tmp_path / "moved"
    shutil.copytree(prompts.parent / "done", out)
    known = {p.name for p in (out / "estimated").iterdir()}
    (out / "estimated" / "bias_config.json").unlink()
    (out / "estimated" / "partial-aligned.safetensors").write_bytes(b"of another name")
    for part in ("bias", "runs", "conditioned", "tuned"):
        shutil.rmtree(out / part)
    result = debias(prompts, out, aligned=shipped.folder("aligned"))
    assert result.exit_code == 0, result.output
    assert {p.name for p in (out / "estimated").iterdir()} == known


def test_without_a_reference_something_stands_in_and_the_report_says_so(prompts, tmp_path):
    rows = [json.loads(line) for line in prompts.read_text().splitlines()]
    rows += [
        {"prompt": item.prompt, "kind": "harmless"}
        for item in organism.items("validation", "harmless", 24, 0)
    ]
    file = tmp_path / "labelled.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    result = tsdi("debias", "organism/aligned", "--prompts", file, "--out", tmp_path / "done",
                  *SETTINGS)  # fmt: skip
    assert result.exit_code in (0, 1), result.output
    said = "Without a reference: the model itself"
    assert said in " ".join(result.output.split())
    page = (tmp_path / "done" / "report.html").read_text(encoding="utf-8")
    assert said in " ".join(page.split())
    assert "organism/aligned and no reference" in page
    estimated = SafetyBias.from_pretrained(tmp_path / "done" / "estimated")
    stood = estimated.info.diagnosis["stand_in"]
    assert estimated.info.stand_in == stood["chosen"]
    assert "too few lookalikes" in stood["left_out"]["partly-ablated"]


def test_where_the_gate_stays_shut_there_is_no_bias_to_use(out, prompts, monkeypatch):
    from tsdi.debiasing import run

    compare = run.compare

    def lossy(*arguments):
        found = compare(*arguments)
        change = found.comparison.overall["safety"]
        return replace(found, lost=[Regression("", "all", change, True)])

    monkeypatch.setattr(run, "compare", lossy)
    result = debias(prompts, out)
    assert result.exit_code == 1
    assert "There is no bias to use. The safety gate is shut." in " ".join(result.output.split())
    assert "Lost in all harmful prompts" in result.output
    assert not (out / "bias").exists()


def test_a_bias_of_an_earlier_call_goes_where_no_gain_is_shown(out, prompts, monkeypatch):
    from tsdi.debiasing import run

    monkeypatch.setattr(run, "helps", lambda _: False)
    result = debias(prompts, out)
    assert result.exit_code == 1
    assert "On the test prompts no gain is shown." in " ".join(result.output.split())
    assert not (out / "bias").exists()


def test_a_pair_without_a_habit_has_nothing_to_remove(prompts, tmp_path):
    result = debias(prompts, tmp_path / "clean", aligned="organism/clean")
    assert result.exit_code == 1
    assert "Nothing to remove" in " ".join(result.output.split())
    assert "Safety was looked at" not in result.output
    assert not (tmp_path / "clean" / "tuned").exists()


def test_what_is_refused_at_the_door_leaves_no_folder(prompts, tmp_path):
    result = debias(prompts, tmp_path / "new", "--attack", "role-play")
    assert result.exit_code == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--trials", 7), "is of other settings: trials 6, not 7"),
        (
            ("--judge", "refusal-phrases"),
            "judge 'None', not 'refusal-phrases'",
        ),
        (("--end-of-thinking", "XYZ"), "is of other judging: end_of_thinking"),
        (("--trials", 5), "'--trials'"),
        (("--attack", "role-play"), "words that the model's tokenizer does not know"),
        (("--fewest-prompts", 30), "three parts take 100"),
        (("--attack", "flattery"), "flattery"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(out, prompts, more, said):
    result = debias(prompts, out, *more)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_other_files_are_left_alone(prompts, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    result = debias(prompts, tmp_path)
    assert result.exit_code == 2
    assert "holds other files" in result.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("moved", "wanted"),
    [
        ({"compliance": (0.1, 0.3)}, True),
        ({"compliance": (0.1, 0.3), "correct": (-0.1, 0.2)}, True),
        ({"compliance": (0.1, 0.3), "correct": (-0.3, -0.1)}, False),
        ({"compliance": (-0.1, 0.3)}, False),
        ({"safety": (0.1, 0.3)}, False),
    ],
)
def test_a_gain_is_a_clear_rise_that_no_clear_fall_pays_for(moved, wanted):
    share = Estimate(0.5, 0.4, 0.6, 9)
    overall = {
        name: Change(share, share, Estimate((low + high) / 2, low, high, 9), 0.01)
        for name, (low, high) in moved.items()
    }
    assert helps(SimpleNamespace(overall=overall)) is wanted


def test_a_judges_password_is_not_written_down():
    judging = Judging("llm-refusal", JudgeOptions(url="https://me:secret@host/v1?token=secret"))
    assert "secret" not in str(_of_judging(judging))


def test_optuna_is_asked_for_before_the_long_work(prompts, tmp_path, monkeypatch):
    monkeypatch.setattr("tsdi.evaluation.tuning.find_spec", lambda _: None)
    result = debias(prompts, tmp_path / "out")
    assert result.exit_code == 2
    assert "tsdi[tune]" in result.stderr
    assert not (tmp_path / "out").exists()
