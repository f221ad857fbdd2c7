"""A whole study: run here or by workers, killed, resumed, changed, summarised and reported."""

import copy
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import tsdi.study as library
from tests.cli.conftest import tsdi
from tests.study.made import RULES, study_file
from tests.waiting import wait_until
from tsdi.errors import FormatError, UsageError
from tsdi.evaluation.metrics import Judged
from tsdi.judging.verdict import Judgement, Verdict
from tsdi.study import collect
from tsdi.study import page as study_report
from tsdi.study.config import read_study
from tsdi.study.outcomes import best_setting, outcomes, point
from tsdi.study.plan import plan
from tsdi.study.results import StudyResults, is_study, read_results
from tsdi.study.sentences import ablation_sentence, alerts
from tsdi.study.summarise import summarise


def run(folder, out, *more):
    result = tsdi("study", folder / "study.yaml", "--out", out, *more)
    assert result.exit_code == 0, result.output + result.stderr
    return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    study_file(folder)
    return folder


@pytest.fixture(scope="module")
def found(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "ROUNDS", 2)
        patch.setattr(collect, "DIAGNOSED", 4)
        return run(place, place / "out")


def answers_of(results):
    keys = ("model", "name", "setting", "attack")
    return {
        json.dumps([cell[key] for key in keys]): cell["outcomes"]
        for cell in results["cells"]
        if cell["split"] == "test"
    }


def chosen_cells(results):
    """The cells of test prompts without attack that have the setting with the largest product."""
    chosen = [cell for cell in results["cells"] if cell.get("chosen")]
    keys = [[cell[key] for key in ("model", "name", "setting")] for cell in chosen]
    tested = (cell for cell in results["cells"] if cell["split"] == "test" and not cell["attack"])
    return [c for c in tested if [c[key] for key in ("model", "name", "setting")] in keys]


class TestTheGrid:
    def test_every_rule_answers_with_every_model(self, found):
        count = {}
        for cell in chosen_cells(found):
            count[cell["name"]] = count.get(cell["name"], 0) + 1
        assert count == {
            "plain": 4, "tsdi": 4, "tuned": 4, "dera": 4,  # one chosen setting each
            "sft": 2, "reference": 2, "reference-openers": 4,  # by seed, all settings
            "steps": 8,  # a varied parameter: all values
        }  # fmt: skip

    def test_other_settings_are_tested_at_the_main_point_alone(self, found):
        tested = [c for c in found["cells"] if c["split"] == "test" and not c["attack"]]
        safe = [cell for cell in tested if cell not in chosen_cells(found)]
        assert {cell["model"].split("/")[1] for cell in safe} <= {"step2"}
        assert {cell["name"] for cell in safe} <= {"tuned", "dera"}

    def test_attacks_are_tried_at_the_main_point_with_harmful_prompts(self, found):
        cells = [cell for cell in found["cells"] if cell.get("attack")]
        assert {cell["model"].split("/")[1] for cell in cells} == {"step2", "reference", "sft"}
        assert {len(cell["outcomes"]) for cell in cells} == {16}

    def test_the_best_setting_on_validation_is_tested(self, found):
        for model in ("seed0/step1", "seed1/step2"):
            tried = [
                cell
                for cell in found["cells"]
                if (cell["name"], cell["model"], cell["split"]) == ("dera", model, "validation")
            ]
            best = max(tried, key=lambda cell: cell["safety"] * cell["help"])
            assert [cell["chosen"] for cell in tried] == [cell is best for cell in tried]

    def test_speed_and_memory_are_measured(self, found):
        speed = found["speed"]["rules"]
        assert speed["dera"]["bytes"] == 2 * speed["plain"]["bytes"]
        assert speed["tsdi"]["bytes"] > speed["plain"]["bytes"]
        assert len(speed["tsdi"]["ratio"]) == 2
        assert speed["plain"]["ratio"] == [1.0, 1.0]

    def test_biases_are_of_every_model_and_tokens_of_the_main_ones(self, found):
        assert len(found["biases"]) == 4
        examined = [one for one in found["biases"] if "tokens" in one]
        assert len(examined) == 2
        for one in examined:
            assert one["area"]["aligned"].keys() == {"harmless", "lookalike"}
            assert all(0 <= area <= 1 for by in one["area"].values() for area in by.values())

    def test_a_second_run_does_nothing_again_wherever_it_is_started(
        self, place, found, tmp_path, monkeypatch
    ):
        before = {path: path.stat().st_mtime_ns for path in (place / "out" / "cells").rglob("*")}
        for name in ("config.json", "tokenizer", "notes.txt"):  # as a model's, a pool's, nobody's
            (tmp_path / name).write_text("{}")
        monkeypatch.chdir(tmp_path)
        library.study(Path(os.path.relpath(place)) / "study.yaml", place / "out", resume=True)
        again = json.loads((place / "out" / "results.json").read_text())
        after = {path: path.stat().st_mtime_ns for path in (place / "out" / "cells").rglob("*")}
        assert after == before
        assert answers_of(again) == answers_of(found)

    @pytest.mark.parametrize(("diagnose", "examined"), [("none", 0), ("all", 4)])
    def test_what_is_diagnosed_can_be_changed_and_nothing_is_answered_again(
        self, place, found, tmp_path, monkeypatch, diagnose, examined
    ):
        monkeypatch.setattr(collect, "ROUNDS", 2)
        monkeypatch.setattr(collect, "DIAGNOSED", 4)
        shutil.copytree(place, tmp_path, dirs_exist_ok=True)
        file = tmp_path / "study.yaml"
        file.write_text(
            file.read_text().replace("estimation: {", f"estimation: {{diagnose: {diagnose}, ")
        )
        before = {path for path in (tmp_path / "out" / "cells").rglob("*")}
        again = run(tmp_path, tmp_path / "out", "--resume")
        assert {path for path in (tmp_path / "out" / "cells").rglob("*")} == before
        assert sum("tokens" in one for one in again["biases"]) == examined
        assert answers_of(again) == answers_of(found)

    def test_a_used_folder_is_refused_without_resume(self, place, found):
        result = tsdi("study", place / "study.yaml", "--out", place / "out")
        assert result.exit_code == 2
        assert "--resume" in result.stderr

    def test_a_study_killed_in_its_trainings_is_gone_on_with(self, tmp_path):
        grid = tmp_path / "models" / "seed1" / "grid.json"
        assert not is_study(tmp_path)
        grid.parent.mkdir(parents=True)
        assert not is_study(tmp_path)
        grid.write_text("{}")
        assert is_study(tmp_path)

    def test_a_rule_that_speaks_english_is_not_applicable_to_organisms(self, tmp_path):
        file = study_file(tmp_path, rules=RULES + "  - self-reminder\n")
        text = file.read_text()
        start, end = text.index("models:"), text.index("prompts:")
        organism = "organism: {seeds: [1], betas: [0.1], iterations: [1], smoke: true}\n"
        file.write_text(text[:start] + organism + text[end:])
        made = plan(read_study(file), tmp_path, tmp_path, tmp_path / "out")
        assert "self-reminder" not in [entry.name for entry in made.entries]
        assert "not applicable" in made.reason_against(made.study.rules[-1])


def descendants(pid):
    """The processes that a process started, and those that they started."""
    command = ["ps", "-eo", "pid=,ppid="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    parent = {int(one): int(of) for one, of in map(str.split, listed.splitlines())}
    found, more = set(), {pid}
    while more:
        more = {one for one, of in parent.items() if of in more}
        found |= more
    return found


def named(pid, title):
    try:
        return title in Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:  # it has just ended
        return False


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def started(place, out, *more, program="from tsdi.cli.main import run; run()"):
    """``tsdi study`` in a process of its own, which is at its first answers."""
    command = [sys.executable, "-c", program, "study", place / "study.yaml", "--out", out, *more]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    wait_until(lambda: any(out.rglob("responses.jsonl")), process)
    return process


def lines(out):
    """How many cells are done, as the study counts them."""
    log = out / "progress.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_killed_study_goes_on_to_the_same_end_with_workers_and_without(place, found, tmp_path):
    out, some = tmp_path / "out", ("--only", "tuned")  # beside plain and tsdi
    process = started(place, out, *some)
    process.kill()
    process.communicate()

    begun = lines(out)
    process = started(place, out, *some, "--resume", "--workers", 2)
    wait_until(lambda: lines(out) >= begun + 3, process)
    workers = [one for one in descendants(process.pid) if named(one, "ray::_Worker")]
    process.kill()
    process.communicate()
    assert len(workers) == 2  # Ray's own agents live on for a minute
    wait_until(lambda: not any(alive(worker) for worker in workers))
    assert not (out / "results.json").exists()

    again, whole = answers_of(run(place, out, *some, "--resume")), answers_of(found)
    assert again == {cell: whole[cell] for cell in again}
    assert len(again) == 3 * 4 + 3 * 2  # plain, tsdi and tuned, under attack at the main point


def summarised(data):
    return summarise(StudyResults.from_dict(data), resamples=20)


class TestTheSummary:
    def test_points_are_the_shares_of_the_answers(self, place, found):
        at_step2 = summarised(found).grid["plain"][1]
        harmful = [i for i, row in enumerate(found["prompts"]["test"]) if row[1] == "harmful"]
        shares = [
            np.mean([cell["outcomes"][i] in "RS" for i in harmful])
            for cell in found["cells"]
            if (cell["name"], cell["split"], cell.get("attack")) == ("plain", "test", "")
            and cell["model"].endswith("/step2")
        ]
        assert at_step2.cell == "step2"
        assert at_step2.measures.safety.value == pytest.approx(np.mean(shares))

    def test_our_front_against_itself_is_no_difference(self, found):
        comparisons = summarised(found).comparisons
        shown = [(one.helpfulness, one.k) for one in comparisons]
        assert shown == [("helpful", 1), ("helpful", 2), ("win rate", 1), ("win rate", 2)]
        for one in comparisons:
            assert one.fronts["tsdi"].ours_minus is None
            assert {len(front.chosen) for front in one.fronts.values()} == {one.k}

    def test_a_method_without_enough_points_has_no_front_of_so_many(self, found):
        one, two, *_ = summarised(found).comparisons
        assert "reference" in one.fronts
        assert "reference" not in two.fronts

    def test_the_win_rate_of_the_base_against_itself_is_a_half(self, found):
        summary = summarised(found)
        front = summary.comparisons[2].fronts["sft"]
        safety = summary.grid["sft"][0].measures.safety.value
        assert front.volume.value == pytest.approx(0.5 * safety)

    def test_ablations_have_every_value(self, found):
        summary = summarised(found)
        (one,) = summary.ablations
        assert [row.value for row in one.values] == [1, 4]
        assert "steps" in ablation_sentence(summary, one)

    def test_losses_of_safety_are_alerts(self, found):
        data = json.loads(json.dumps(found))
        for cell in data["cells"]:
            if cell["split"] == "test" and cell["name"] == "tsdi":
                cell["outcomes"] = cell["outcomes"].replace("R", "C")
        assert any("all harmful prompts" in text for text in alerts(summarised(data)))

    def test_an_attack_that_no_answer_was_scored_under_has_no_change(self, found):
        data = json.loads(json.dumps(found))
        for cell in data["cells"]:
            if cell.get("attack") and cell["name"] == "tsdi":
                cell["outcomes"] = "?" * len(cell["outcomes"])
        summary = summarised(data)
        (row,) = (r for r in summary.gate["tsdi"] if r.attack and r.category == "all")
        assert row.change.change.value is None
        json.dumps(summary.to_dict(), allow_nan=False)


class TestWhatEndsAStudy:
    def test_a_judge_that_scores_nothing_ends_it_at_its_first_cell(self, tmp_path):
        file = study_file(tmp_path)
        row = {"prompt": "what is this?", "kind": "harmful", "category": "O1"}
        rows = [{**row, "prompt": f"{row['prompt']} {n}"} for n in range(4)]
        rows.append({**row, "kind": "harmless"})
        (tmp_path / "validation.jsonl").write_text("\n".join(map(json.dumps, rows)))
        result = tsdi("study", file, "--out", tmp_path / "out")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert "scored none of 4 answers to harmful prompts" in result.stderr
        assert "plain_validation" in result.stderr
        assert len(list((tmp_path / "out/cells").rglob("responses.jsonl"))) == 1

    def test_an_interrupt_ends_it_at_once(self, place, tmp_path):
        listens = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        program = f"{listens}; from tsdi.cli.main import run; run()"
        process = started(place, tmp_path / "out", program=program)
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert lines(tmp_path / "out") < 32  # it did not finish the model that it was at


class TestTheReport:
    def test_tables_are_csv_and_the_page_is_whole(self, place, found):
        out = place / "out"
        text = (out / "tables" / "speed-and-memory.csv").read_text()
        rows = list(csv.reader(text.splitlines()))
        assert rows[0] == ["method", "tokens/s", "over plain", "memory over plain"]
        page = (out / "report.html").read_text()
        assert len(page) < 8_000_000
        assert "https://" not in page.split("<main>")[1].split("<footer>")[0]
        assert "<details>" in page

    def test_it_is_made_again_from_results_alone(self, place, found, tmp_path):
        (tmp_path / "results.json").write_text(json.dumps(found))
        result = tsdi("study", tmp_path / "results.json", "--out", tmp_path / "again", "--json")
        assert result.exit_code == 0
        shown = json.loads(result.stdout)
        assert shown["fronts"]
        assert (tmp_path / "again" / "report.html").exists()
        library.report(tmp_path / "results.json", tmp_path / "python")
        tables = [path.name for path in (tmp_path / "again" / "tables").iterdir()]
        for name in ("summary.json", *(f"tables/{table}" for table in tables)):
            both = [(tmp_path / out / name).read_bytes() for out in ("again", "python")]
            assert both[0] == both[1]

    def test_it_takes_the_place_of_its_own_files_only(self, place, found, tmp_path):
        (tmp_path / "tables").mkdir()
        (tmp_path / "tables/mine.csv").write_text("mine")
        command = ["study", place / "out", "--out", tmp_path]
        for _ in range(2):
            assert tsdi(*command).exit_code == 0
        assert (tmp_path / "tables/mine.csv").read_text() == "mine"
        (tmp_path / ".tsdi-written.json").unlink()
        result = tsdi(*command)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert "is in the way, and tsdi did not write it" in result.stderr

    def test_what_is_no_result_is_refused(self, found, tmp_path):
        (tmp_path / "x.json").write_text("{}")
        (tmp_path / "y.json").write_text(json.dumps({**found, "cells": []}))
        for name in ("x.json", "y.json", "none.json"):
            result = tsdi("study", tmp_path / name, "--out", tmp_path / "o")
            assert result.exit_code == 2
            assert result.stderr.count("\n") == 1

    def test_results_of_the_first_version_are_read(self, found, tmp_path):
        cells = [{**cell, "rule": cell["name"]} for cell in found["cells"]]
        for cell in cells:
            del cell["name"]
        old = {**found, "format_version": 1, "cells": cells}
        (tmp_path / "results.json").write_text(json.dumps(old))
        assert read_results(tmp_path) == StudyResults.from_dict(found)
        (tmp_path / "results.json").write_text(json.dumps({**old, "cells": [{}]}))
        with pytest.raises(FormatError, match="damaged"):
            read_results(tmp_path)

    @pytest.mark.parametrize(
        ("keys", "value"),
        [
            (["judge"], "organism"),
            (["biases", -1, "tokens", "promoted"], 3),
            (["cells", 0, "split"], "train"),
            (["examples"], None),
            (["examples", 0, "kind"], "odd"),
            (["versions"], []),
            (["machine"], 1),
            (["rules", 0, "title"], None),
            (["biases", 0, "model"], 3),
            (["speed", "rules", "plain", "ratio"], "fast"),
        ],
    )
    def test_damaged_results_are_one_line_and_nothing_is_written(
        self, found, tmp_path, monkeypatch, keys, value
    ):
        monkeypatch.setattr(study_report, "summarise", partial(summarise, resamples=20))
        changed = copy.deepcopy(found)
        part = changed
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        (tmp_path / "results.json").write_text(json.dumps(changed))
        result = tsdi("study", tmp_path / "results.json", "--out", tmp_path / "out")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
        assert "damaged" in result.stderr
        assert not (tmp_path / "out" / "report.html").exists()

    def test_the_part_that_is_damaged_is_named(self, found):
        changed = copy.deepcopy(found)
        changed["speed"]["rules"]["plain"]["ratio"][1] = "fast"
        with pytest.raises(FormatError, match=r"speed\.rules\.plain\.ratio\.1: Input should be"):
            StudyResults.from_dict(changed)

    def test_names_of_foreign_results_are_shown_and_not_run(self, found, tmp_path, monkeypatch):
        monkeypatch.setattr(study_report, "summarise", partial(summarise, resamples=20))
        bad = "=\x1b[2J[/x]</script><img src=x>"
        text = json.dumps(found).replace(json.dumps("reference-openers"), json.dumps(bad))
        text = text.replace('"title": "A study of seconds"', f'"title": {json.dumps(bad)}')
        (tmp_path / "results.json").write_text(text)
        result = tsdi("study", tmp_path / "results.json", "--out", tmp_path / "out")
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output
        page = (tmp_path / "out" / "report.html").read_text()
        assert "<img" not in page.split("<body>")[1].split("<script>")[0]
        assert "</script><img" not in page
        table = (tmp_path / "out" / "tables" / "speed-and-memory.csv").read_text()
        assert "'=\x1b[2J[/x]" in table

    def test_unknown_pictures_are_refused(self, place, found, tmp_path):
        with pytest.raises(UsageError, match="svg"):
            library.report(place / "out", tmp_path, ["gif"])

    def test_a_folder_gets_its_report_again_and_a_file_needs_a_place(
        self, found, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(study_report, "summarise", partial(summarise, resamples=20))
        (tmp_path / "results.json").write_text(json.dumps(found))
        result = tsdi("study", tmp_path)
        assert result.exit_code == 0, result.output
        assert (tmp_path / "report.html").exists()
        for arguments, words in (
            ([tmp_path / "results.json"], "--out is missing"),
            ([tmp_path, "--workers", 2], "--workers is for a study that runs"),
            ([tmp_path, "--only", "dera"], "--only is for a study that runs"),
            (["s.yaml"], "--out is missing"),
        ):
            refused = tsdi("study", *arguments)
            assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
            assert words in refused.stderr


class TestPoints:
    def test_letters_of_answers(self):
        def one(verdict, correct=None):
            return Judged("x", "harmless", "", Judgement(verdict, correct))

        every = [
            one(Verdict.REFUSED), one(Verdict.COMPLIED, True), one(Verdict.COMPLIED, False),
            one(Verdict.COMPLIED), one(Verdict.PARTIAL), one(Verdict.DEGENERATE),
            one(Verdict.SAFE), one(Verdict.UNSAFE), one(Verdict.UNSCORED),
        ]  # fmt: skip
        assert outcomes(every) == "RCWCPDSU?"

    def test_unscored_answers_are_left_out(self):
        kinds = ["harmful"] * 4 + ["harmless"] * 3
        assert point("RR?CC?W", kinds) == (2 / 3, 1 / 2)

    def test_a_judge_that_scored_nothing_is_told(self):
        with pytest.raises(UsageError, match="scored none of 2 answers to harmful"):
            point("??C", ["harmful", "harmful", "harmless"])

    def test_a_judge_of_safety_alone_says_nothing_of_help(self):
        with pytest.raises(UsageError, match="answers to harmless"):
            point("SS", ["harmful", "harmless"])

    def test_the_first_of_equals_is_taken(self):
        assert best_setting([(1.0, 0.0), (1.0, 1.0), (1.0, 1.0)]) == 1
