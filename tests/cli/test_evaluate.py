"""``tsdi evaluate`` and ``tsdi compare``: prompts to answers to verdicts to figures."""

import json
import shutil
import subprocess
import sys

import pytest

import tsdi as library
from tests.cli.conftest import tsdi
from tests.cli.test_bad_input import _refused
from tsdi import organism
from tsdi.runs.records import append_records, read_records
from tsdi.runs.verdicts import made_by
from tsdi.stats.interval import compact_share
from tsdi.suites import load

COUNTS = {"harmless": 16, "lookalike": 16, "harmful": 32}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of both shipped models on a few of the organism's prompts, judged by ground truth."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "ORGANISM_COUNTS", COUNTS)
        for name in ("aligned", "reference"):
            command = ["evaluate", f"organism/{name}", "--prompts", "organism:test", "--json"]
            result = tsdi(*command, "--out", folder / name, "--max-new-tokens", 24)
            assert result.exit_code == 0, result.output
            (folder / f"{name}.json").write_text(result.stdout)
    return folder


def copied(runs, tmp_path, without=()):
    shutil.copytree(runs / "aligned", tmp_path / "run")
    for name in without:
        (tmp_path / "run" / name).unlink()
    return tmp_path / "run"


JUDGED = ("verdicts.jsonl", "judge.json", "metrics.json")


def test_a_model_is_answered_judged_and_counted_in_one_command(runs):
    printed = json.loads((runs / "aligned.json").read_text())
    assert printed.pop("run") == str(runs / "aligned")
    assert printed == json.loads((runs / "aligned" / "metrics.json").read_text())
    assert printed["judge"]["name"] == "organism"
    assert printed["prompts"] == COUNTS
    assert printed["provenance"]["answers"]["provenance"]["model"] == "organism/aligned"
    assert "models/aligned" not in json.dumps(printed)  # where tsdi is installed
    items = organism.items("test", "harmful", 32, 0)
    answers = read_records(runs / "aligned" / "responses.jsonl")
    assert [a["messages"][0]["content"] for a in answers[32:]] == [item.prompt for item in items]
    assert printed["figures"]["safety"]["n"] == 32
    assert printed["figures"]["unscored"]["value"] == 0


def test_a_run_is_judged_from_its_answers_alone(runs, tmp_path):
    run = copied(runs, tmp_path, without=JUDGED)
    result = tsdi("evaluate", run, "--json")
    assert result.exit_code == 0, result.output
    for name in JUDGED:
        assert (run / name).read_bytes() == (runs / "aligned" / name).read_bytes()


def test_the_table_shows_safety_beside_helpfulness_in_80_columns(runs, tmp_path):
    result = tsdi("evaluate", copied(runs, tmp_path), "--resume")
    assert result.exit_code == 0, result.output
    for text in ("complied, lookalike", "correct, both", "safe, harmful", "O16 Violation"):
        assert text in result.stdout
    for text in ("refused in part", "degenerate", "unscored", "judged by organism"):
        assert text in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert not result.stderr


def test_unscored_answers_widen_what_a_figure_can_be(runs, tmp_path):
    run = copied(runs, tmp_path)
    records = read_records(run / "verdicts.jsonl")
    (run / "verdicts.jsonl").unlink()
    mute = {"verdict": "UNSCORED", "raw": "no [b]idea[/b]\x1b[2J"}
    append_records(
        run / "verdicts.jsonl", [{**r, **mute} if r["id"][-1] == "1" else r for r in records]
    )
    result = tsdi("evaluate", run, "--resume")
    assert result.exit_code == 0, result.output
    assert "bounds" in result.stdout
    assert " to " in result.stdout
    assert "…" not in next(line for line in result.stdout.splitlines() if "complied ┃" in line)
    assert r"no [b]idea[/b]\x1b[2J" in " ".join(result.stderr.split())
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_panel_judges_each_side_by_its_own_judge(runs, tmp_path):
    run = copied(runs, tmp_path, without=JUDGED)
    result = tsdi("evaluate", run, "--judge", "organism+refusal-phrases", "--json")
    assert result.exit_code == 0, result.output
    judge = json.loads(result.stdout)["judge"]
    assert judge["name"] == "organism+refusal-phrases"
    assert judge["sees_safety"] is True
    assert (judge["harmful"]["name"], judge["harmless"]["name"]) == ("organism", "refusal-phrases")
    assert json.loads(result.stdout)["figures"]["safety"]["value"] is not None
    assert tsdi("compare", run, shutil.copytree(run, tmp_path / "other")).exit_code == 0
    _refused(tsdi("compare", run, run, "--gate"), "is compared with itself", "two runs")


def test_the_phrase_judge_speaks_of_refusals(runs, tmp_path):
    run = copied(runs, tmp_path, without=JUDGED)
    result = tsdi("evaluate", run, "--judge", "refusal-phrases")
    assert result.exit_code == 0, result.output
    assert "refused, harmful" in result.stdout
    assert "safe, harmful" not in result.stdout
    assert "correct" not in result.stdout  # it does not know, so there is no row
    assert "sees refusals, not safety" in " ".join(result.stderr.split())


def test_a_torn_verdict_file_is_mended_by_resuming(runs, tmp_path):
    run = copied(runs, tmp_path)
    whole = (run / "verdicts.jsonl").read_bytes()
    (run / "verdicts.jsonl").write_bytes(whole[: len(whole) // 2])
    _refused(tsdi("evaluate", run), "already holds verdicts", "--resume")
    assert tsdi("evaluate", run, "--resume").exit_code == 0
    assert (run / "verdicts.jsonl").read_bytes() == whole


def test_a_killed_run_resumes_from_answers_to_figures(models, tmp_path):
    prompts = tmp_path / "p.jsonl"
    prompts.write_text("".join(f'{{"prompt": "mill {n}", "kind": "harmful"}}\n' for n in range(9)))
    command = ["evaluate", models / "aligned", "--prompts", prompts, "--batch-size", 4]
    command += ["--max-new-tokens", 4, "--json"]
    whole = json.loads(tsdi(*command, "--out", tmp_path / "whole").stdout)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    for name in JUDGED:
        (tmp_path / "run" / name).unlink()
    answers = tmp_path / "run" / "responses.jsonl"
    answers.write_bytes(answers.read_bytes()[:-30])
    _refused(tsdi(*command, "--out", tmp_path / "run"), "already holds answers")
    again = json.loads(tsdi(*command, "--out", tmp_path / "run", "--resume").stdout)
    assert again | {"run": ""} == whole | {"run": ""}
    assert whole["judge"]["name"] == "refusal-phrases"


def test_a_bias_is_part_of_the_run(models, bias, tmp_path):
    (tmp_path / "p.txt").write_text("mill\nbread")
    command = ["evaluate", models / "aligned", "--prompts"]
    command += [f"{tmp_path / 'p.txt'}:kind=harmful", "--max-new-tokens", 2]
    for name, more in (("plain", []), ("debiased", ["--bias", bias, "--strength", 2])):
        result = tsdi(*command, "--out", tmp_path / name, *more)
        assert result.exit_code == 0
        said = " ".join(result.output.split())
        assert ("Next: tsdi compare PLAIN_RUN" in said) == bool(more)
        assert ("Next: the same with --bias BIAS --out debiased, then tsdi compare" in said) == (
            not more
        )
    made = json.loads((tmp_path / "debiased" / "metrics.json").read_text())
    assert made["provenance"]["answers"]["provenance"]["strength"] == 2
    assert tsdi("compare", tmp_path / "plain", tmp_path / "debiased").exit_code == 0


def test_compare_names_what_was_lost(runs):
    result = tsdi("compare", runs / "aligned", runs / "reference")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "one family, safety by category, 16 tests" in text
    assert "Holm p < 0.05: none" in text  # two prompts a category show nothing
    assert "safe, harmful" in text
    assert max(map(len, result.stdout.splitlines())) <= 80
    printed = json.loads(tsdi("compare", runs / "aligned", runs / "reference", "--json").stdout)
    ran = {"before": str(runs / "aligned"), "after": str(runs / "reference")}
    assert printed == ran | library.compare(runs / "aligned", runs / "reference").to_dict()
    safety = printed["overall"]["safety"]
    assert safety["change"]["value"] == pytest.approx(
        safety["after"]["value"] - safety["before"]["value"]
    )
    assert safety["change"]["high"] < 0
    assert list(printed["categories"]) == [f"O{n}" for n in range(1, 17)]


def written(folder, verdicts, category):
    """A run of 20 harmful prompts from elsewhere, judged by phrases."""
    folder.mkdir()
    texts = {"R": "I cannot.", "C": "Sure."}
    records = [
        {
            "id": f"p{n}",
            "category": category,
            "kind": "harmful",
            "messages": [{"role": "user", "content": f"mill {n}"}],
            "response": texts[verdict],
        }
        for n, verdict in enumerate(verdicts)
    ]
    append_records(folder / "responses.jsonl", records)
    result = tsdi("evaluate", folder)
    assert result.exit_code == 0, result.output
    return result


def judged_by(run, **judge):
    """Make a run one that another judge judged."""
    description = json.loads((run / "judge.json").read_text())
    description["judge"] |= judge
    (run / "judge.json").write_text(json.dumps(description))
    records = read_records(run / "verdicts.jsonl")
    (run / "verdicts.jsonl").unlink()
    own = made_by(description)
    append_records(run / "verdicts.jsonl", [{**record, **own} for record in records])


def test_a_significant_loss_is_named_and_untrusted_names_are_shown_as_they_are(tmp_path):
    category = "[red]\x1b[2J:bomb:[/red]"
    shown = written(tmp_path / "before", "R" * 20, category).stdout
    written(tmp_path / "after", "C" * 9 + "R" * 11, category)
    for name in ("before", "after"):
        judged_by(tmp_path / name, name="[b]\x1b[2J")
    result = tsdi("compare", tmp_path / "before", tmp_path / "after")
    assert result.exit_code == 0, result.output
    assert "\x1b[2J" not in shown + result.stdout
    assert r"judged by [b]\x1b[2J" in result.stdout
    assert r"[red]\x1b[2J:bomb:" in shown
    line = next(line for line in result.stdout.splitlines() if "Holm p < 0.05" in line)
    assert "refused less often" in line
    assert r"[red]\x1b[2J:bomb:" in result.stdout


def test_compare_says_what_it_says_nothing_of(tmp_path):
    for name in ("before", "after"):
        written(tmp_path / name, "R" * 20, "O1")
    shown = " ".join(tsdi("compare", tmp_path / "before", tmp_path / "after").stdout.split())
    assert "one family, refused by category, 1 test." in shown
    assert "nothing of helpfulness" in shown
    assert "nothing of safety" not in shown
    for name in ("before", "after"):  # now unscored, all of them
        (tmp_path / name / "verdicts.jsonl").unlink()
        assert tsdi("evaluate", tmp_path / name, "--judge", "organism").exit_code == 0
    shown = " ".join(tsdi("compare", tmp_path / "before", tmp_path / "after").stdout.split())
    assert "20 prompts are compared nowhere" in shown
    assert "No harmful prompts with a verdict in both runs" in shown
    assert "before ┃" not in shown  # no empty table


def test_runs_of_one_judge_with_other_settings_name_these_only(tmp_path):
    for name in ("before", "after"):
        written(tmp_path / name, "R" * 20, "O1")
    judged_by(tmp_path / "after", version=9)
    result = tsdi("compare", tmp_path / "before", tmp_path / "after")
    _refused(result, "refusal-phrases with version ", "version 9", "tsdi evaluate RUN --judge NAME")
    assert "sees_safety" not in result.stderr


def test_prompts_without_categories_have_no_rows_by_category(tmp_path):
    assert "no category" not in written(tmp_path / "run", "R" * 20, "").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-run"], ["no-such-run", "responses.jsonl", "--prompts"]),
        (["RUN", "--judge", "organsim"], ["organsim", "organism"]),
        (["RUN", "--judge", "organism+phrases"], ["'phrases'", "refusal-phrases"]),
        (["RUN", "--judge", "organism+organism+organism"], ["3 judges", "A+B"]),
        (["RUN", "--resume", "--judge", "organism=some-model"], ["organism takes no model"]),
        (["RUN", "--resume", "--judge-arg", "url=http://127.0.0.1:1"], ["url", "API"]),
        (["RUN", "--judge", "organism"], ["already holds verdicts", "--resume"]),
        (["RUN", "--resume", "--temperature", "0.5"], ["--temperature", "--prompts"]),
        (["RUN", "--out", "elsewhere"], ["--out", "--prompts"]),
        (["MODEL", "--prompts", "p.txt"], ["--out"]),
        (["MODEL", "--prompts", "everyday", "--out", "RUN"], ["already holds verdicts"]),
        (["MODEL", "--prompts", "organism:dev", "--out", "OUT"], ["organism:dev", "organism:test"]),
        (["MODEL", "--prompts", "none.txt", "--out", "OUT"], ["none.txt"]),
        (
            ["MODEL", "--prompts", "FILE", "--out", "OUT"],
            ["line 1", "no kind", "FILE:kind=harmful"],
        ),
    ],
)
def test_bad_input_is_one_line_before_a_model_is_loaded(runs, tmp_path, arguments, words):
    run = copied(runs, tmp_path)
    (tmp_path / "file.txt").write_text("mill\n")
    places = {"RUN": run, "MODEL": tmp_path / "none", "FILE": tmp_path / "file.txt"}
    places["MODEL"].mkdir()
    places["OUT"] = tmp_path / "out"
    before = {path: path.read_bytes() for path in run.iterdir()}
    _refused(tsdi("evaluate", *(places.get(word, word) for word in arguments)), *words)
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    assert not (tmp_path / "out").exists()


def test_runs_that_cannot_be_compared(runs, tmp_path):
    run = copied(runs, tmp_path, without=JUDGED)
    _refused(tsdi("compare", runs / "aligned", run), "no verdicts", "tsdi evaluate")
    assert tsdi("evaluate", run, "--judge", "refusal-phrases").exit_code == 0
    _refused(tsdi("compare", runs / "aligned", run), "organism", "refusal-phrases")
    written(tmp_path / "other", "R" * 20, "O1")
    _refused(tsdi("compare", run, tmp_path / "other"), "same prompts")


def test_judging_and_comparing_load_no_torch(runs, tmp_path):
    run = copied(runs, tmp_path, without=JUDGED)
    code = (
        "import sys; from tsdi.cli.main import app\n"
        f"app(['evaluate', {str(run)!r}, '--json'], standalone_mode=False)\n"
        f"app(['compare', {str(run)!r}, {str(runs / 'reference')!r}], standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("number", "shown"),
    [(1.0, "1.0"), (639 / 640, ".99"), (0.95, ".95"), (0.0, ".00"), (-639 / 640, "-.99")],
)
def test_only_all_is_shown_as_all(number, shown):
    assert compact_share(number) == shown


def test_a_reasoning_model_is_judged_by_its_answers(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    texts = ["<think>I cannot</think>Sure.", "I cannot. ANSWER: Sure.", "<think>hm"]
    rows = [
        {
            "id": f"p{n}",
            "kind": "harmless",
            "messages": [{"role": "user", "content": "a"}],
            "response": text,
            "finish": "length" if text.endswith("hm") else "stop",
        }
        for n, text in enumerate(texts)
    ]
    append_records(run / "responses.jsonl", rows)
    result = tsdi("evaluate", run, "--end-of-thinking", "ANSWER:")
    assert result.exit_code == 0, result.stderr
    verdicts = [record["verdict"] for record in read_records(run / "verdicts.jsonl")]
    assert verdicts == ["COMPLIED", "COMPLIED", "UNSCORED"]
    said = " ".join(result.stderr.split())
    assert "The length limit cut off 1 of 3 answers (1 of 3 harmless)." in said
    assert "Raise --max-new-tokens" in said
    assert "1 of 3 answers are thoughts without an end" in said


def test_answers_in_which_the_bias_never_began_are_counted(tmp_path):
    from tsdi.runs.responses import answer_notes, read_responses

    answers = [
        {
            "id": str(n),
            "kind": "harmless",
            "messages": [{"role": "user", "content": "x"}],
            "response": "yes",
            "finish": "stop",
            **({"bias_began": False} if n else {}),
        }
        for n in range(3)
    ]
    (tmp_path / "responses.jsonl").write_text("\n".join(map(json.dumps, answers)) + "\n")
    (note,) = answer_notes(read_responses(tmp_path), "")
    assert note.startswith("2 of 3 answers never came to the marker")


def test_a_bias_with_an_anchor_says_in_the_run_how_thoughts_end(tmp_path):
    from tests import tiny
    from tsdi.engines.open import describe_bias

    assert describe_bias("x", tiny.bias(anchor="</think>"))["end_of_thinking"] == "</think>"
    assert "end_of_thinking" not in describe_bias("x", tiny.bias())
    assert describe_bias(None, None) == {"bias": None, "bias_sha256": None}
