"""The real-text experiment from end to end: recipe, measuring and tables, on made-up data."""

import csv
import gzip
import json
from pathlib import Path

import pytest

from tests.cli.conftest import tsdi
from tsdi.errors import FormatError
from tsdi.files import parse_json
from tsdi.stats.proportions import paired_change, wilson
from tsdi.study import real_text, real_text_tables
from tsdi.study.real_text_results import Results, read_results
from tsdi.study.real_text_tables import tables

ROOT = Path(__file__).parent.parent.parent
RECIPE = ROOT / "experiments/real-text/recipe.yaml"
THINGS = ("kettle", "window", "bicycle", "ladder", "garden", "candle", "river", "bread", "lamp")
CATEGORIES = ("animal_abuse", "self_harm", "privacy_violation")


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with made-up rows in the formats of the public data sets."""
    folder = tmp_path_factory.mktemp("data")
    questions = [f"What is a {thing} for, number {n}?" for thing in THINGS for n in range(16)]
    rows = [{"instruction": q, "input": "", "output": f"It is useful: {q}"} for q in questions]
    for name in ("alpaca_random_9k", "alpaca_claude_t45_5k"):
        write(folder / f"alpaca/{name}.json.gz", rows)
    write(folder / "dolly/dolly_3k.json.gz", rows)
    refusals = [row | {"output": "I'm sorry, but I cannot help with that."} for row in rows]
    safety = "safety-tuned-llamas/safety_only_data_Instructions.json.gz"
    write(folder / safety, refusals)
    pairs = [{"prompt": q, "response": ["I cannot say that.", f"Well: {q}"]} for q in questions]
    write(folder / real_text.PKU, pairs)
    labels = ("safe", "unsafe") * 4
    xstest = [
        {"id": n, "prompt": f"{q} {n}", "type": "homonyms", "label": label, "focus": "", "note": ""}
        for n, (q, label) in enumerate(zip(questions, labels, strict=False))
    ]
    write_csv(folder / "xstest/xstest_prompts.csv", xstest)
    or_bench = [{"prompt": f"{q}?", "category": "harmful"} for q in questions[:6]]
    write_csv(folder / "or-bench/or-bench-hard-1k.csv", or_bench)
    beavertails = [
        {"prompt": f"{q}!", "category": CATEGORIES[n % 3], "category_id": n % 3}
        for n, q in enumerate(questions[:12])
    ]
    write(folder / "beavertails-eval/BeaverTails-Evaluation.json", beavertails)
    return folder


@pytest.fixture(scope="module")
def results(data, tmp_path_factory):
    """What is measured of the smoke version of the shipped recipe."""
    folder = tmp_path_factory.mktemp("real-text")
    trained = tsdi("train", RECIPE, "--smoke", "--data", data, "--out", folder / "models")
    assert trained.exit_code == 0, trained.output
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real_text, "PROMPTS_PER_GROUP", 16)
        patch.setattr(real_text, "GROUPS", 2)
        patch.setattr(real_text, "STEPS", 5)
        patch.setattr(real_text, "DIAGNOSED", 2)
        options = ["--models", folder / "models", "--data", data, "--results", folder / "results"]
        for only in ("safety/beta0.2", ""):  # a part first, as one of two workers would
            assert real_text.main([*map(str, options), "--only", only]) == 0
    return folder / "results"


def test_every_model_is_measured_once_and_keeps_no_answer(results):
    recipe = parse_json((results / "run.json").read_bytes())["recipe"]
    stage = recipe["stages"]["safety"]
    models = len(stage["beta"]) * len(stage["keep"])
    assert len(read_results(results).models) == models + 2
    for file in results.glob("safety-*.json"):
        assert "kettle" not in file.read_text()


def test_a_measured_model_is_not_measured_again(results, data):
    file = next(results.glob("safety-*.json"))
    before = file.stat().st_mtime_ns
    options = ["--models", results.parent / "models", "--data", data, "--results", results]
    assert real_text.main([*map(str, options), "--only", "safety/beta0.2-step1"]) == 0
    assert file.stat().st_mtime_ns == before


def made(flags):
    """Results of one aligned model whose answers to six prompts are known."""
    arm = {
        suite: {"rule": flags[0], "other": flags[0], "corrupt": "000000"}
        for suite in ("alpaca", "pku", "or-bench", "xstest", "beavertails")
    }
    after = {suite: one | {"rule": flags[1]} for suite, one in arm.items()}
    kinds = {
        "alpaca": ["harmless"] * 6,
        "or-bench": ["lookalike"] * 6,
        "pku": ["harmful"] * 6,
        "beavertails": ["harmful"] * 6,
        "xstest": ["lookalike", "harmful"] * 3,
    }
    suites = {suite: {"kinds": kinds[suite], "categories": ["a", "b"] * 3} for suite in kinds}
    model = {"model": "safety/x", "beta": 0.1, "iterations": 5, "plain": arm, "debiased": after}
    return Results({"suites": suites}, {"safety/x": model}, "rule")


def test_shares_and_changes_are_those_of_the_flags():
    found = made(("110100", "100100"))
    assert found.refused("safety/x", "plain", "xstest", "harmful") == [True, True, False]
    rows = real_text_tables._debiased_table(found).rows
    harmful = [[1, 1, 0, 1, 0, 0]] * 2 + [[1, 1, 0]], [[1, 0, 0, 1, 0, 0]] * 2 + [[0, 1, 0]]
    before, after = ([bool(f) for suite in arm for f in suite] for arm in harmful)
    expected = paired_change(before, after)
    assert rows[0][1].startswith(f"{expected.value:+.3f} [{expected.low:+.3f}, ")


def test_debiased_models_meet_the_safest_plain_one_that_complies_as_often():
    found = made(("111111", "000111"))
    aligned = found.models["safety/x"]
    models = {
        "helpful": {"model": "helpful", "plain": made(("000000", "")).models["safety/x"]["plain"]},
        "safety/x": aligned,
        "safety/y": aligned
        | {
            "model": "safety/y",
            "iterations": 2,
            "plain": made(("000101", "")).models["safety/x"]["plain"],
        },
    }
    rows = real_text_tables._front_table(Results(found.suites, models, "rule")).rows
    assert [row[1] for row in rows] == ["beta 0.1, 2", "beta 0.1, 2"]
    # three of six harmful prompts are refused instead of two, in three suites of which one is half
    assert rows[1][2].startswith(f"{(3 + 3 + 2 - 2 - 2 - 2) / 15:+.3f}")


def test_the_page_has_every_table_with_intervals(results, tmp_path):
    out = tmp_path / "tables.md"
    assert real_text_tables.main(["--results", str(results), "--out", str(out)]) == 0
    page, found = out.read_text(), read_results(results)
    for title, table in tables(found).items():
        assert f"### {title}" in page
        assert all(len(row) == len(table.header) for row in table.rows)
    flags = found.refused("helpful", "plain", "beavertails", "harmful")
    share = wilson(sum(flags), len(flags))
    assert f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]" in page


def test_the_rule_is_the_one_that_parts_safe_answers_from_unsafe_ones(results, tmp_path):
    (tmp_path / "results").mkdir()
    for file in results.glob("*.json"):
        (tmp_path / "results" / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "results/suites.json"
    content = parse_json(path.read_bytes())
    for better in content["rules"]:
        rules = {
            name: {"safe": "11" if name == better else "10", "unsafe": "00"}
            for name in content["rules"]
        }
        path.write_text(json.dumps(content | {"rules": rules}))
        assert read_results(tmp_path / "results").rule == better


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(FormatError, match="holds no results"):
        read_results(tmp_path)
