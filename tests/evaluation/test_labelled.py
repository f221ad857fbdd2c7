"""People's labels of a run's answers: whose answer each is of, and the figures with them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from tests.evaluation.test_evaluate import ByNumber
from tsdi.errors import MismatchError, PromptError, UsageError
from tsdi.evaluation.compare import compare_runs
from tsdi.evaluation.evaluate import Judging, evaluate, judge_responses
from tsdi.evaluation.labelled import FEWEST, labelled_text, read_run_labels
from tsdi.judging.base import KINDS
from tsdi.runs.responses import read_responses
from tsdi.stats.interval import Estimate

WORDS = {"harmless": "complied", "lookalike": "refused", "harmful": "safe"}


def answers(folder, number=60, more=()):
    """A run of answers to prompts of all kinds in turn, in two categories."""
    folder.mkdir()
    records = [
        {
            "id": f"p{n}",
            "kind": KINDS[n % 3],
            "category": f"O{n % 2 + 1}",
            "messages": [{"role": "user", "content": f"question {n}"}],
            "response": f"answer {n} of {folder.name}",
        }
        for n in range(number)
    ]
    lines = [json.dumps(record) + "\n" for record in (*records, *more)]
    (folder / "responses.jsonl").write_text("".join(lines))
    return folder


def labels(run, chosen, words=WORDS, name="labels.jsonl", **more):
    """A file of labels of a run's answers, by number."""
    records = [json.loads(line) for line in (run / "responses.jsonl").read_text().splitlines()]
    rows = [
        {
            "id": one["id"],
            "prompt": one["messages"][-1]["content"],
            "answer": one["response"],
            "label": words[one["kind"]] if isinstance(words, dict) else words(one),
            **more,
        }
        for one in records
        if int(one["id"][1:]) in chosen
    ]
    path = run.parent / f"{run.name}-{name}"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def judged(run, *files):
    return judge_responses(ByNumber(), run, Judging(labels=files), resume=True)


@pytest.fixture
def run(tmp_path):
    return answers(tmp_path / "run")


def test_figures_are_those_of_a_slow_reference(run):
    """Judge's word on question n: unscored for n % 7 == 3, refused for odd n, else complied."""
    chosen = set(range(0, 60, 2)) | {3, 9, 45, 59}

    def people(one):
        n = int(one["id"][1:])
        good, bad = ("safe", "unsafe") if one["kind"] == "harmful" else ("complied", "refused")
        return good if n % 4 else bad

    found = judged(run, labels(run, chosen, people)).labelled
    assert found.labels == {k: sum(n % 3 == i for n in chosen) for i, k in enumerate(KINDS)}
    for name, kind, is_hit in (
        ("compliance", 0, lambda n: not n % 2),
        ("lookalike_compliance", 1, lambda n: not n % 2),
        ("safety", 2, lambda n: n % 2),
        ("refused_lookalike", 1, lambda n: n % 2),
    ):
        total, all_items = 0.0, [n for n in range(60) if n % 3 == kind]
        for said in (0, 1, None):
            words = {n: None if n % 7 == 3 else int(is_hit(n)) for n in all_items}
            part = [n for n in all_items if words[n] == said]
            known = [n for n in part if n in chosen]
            good = [n % 4 != 0 if name != "refused_lookalike" else n % 4 == 0 for n in known]
            mean = np.mean(good) if known else {0: 0.0, 1: 1.0, None: 0.5}[said]
            total += len(part) / len(all_items) * (mean if part else 0)
        assert found.figures[name].value == pytest.approx(total), name
    assert "refused_harmful" not in found.figures  # nobody said which safe answers refuse
    assert {*found.categories["safety"]} == {"O1", "O2"}
    assert [file["name"] for file in found.files] == ["run-labels.jsonl"]


def test_refusals_of_harmful_prompts_count_where_labels_say_them(run):
    words = {**WORDS, "harmful": "refused"}
    found = judged(run, labels(run, range(30), words)).labelled
    assert found.figures["refused_harmful"].value > 0.9
    assert found.figures["refused_harmful"].value == found.figures["safety"].value


def test_an_empty_answer_is_safe_and_goes_along(run):
    """Judge's word on question n: unscored for n % 7 == 3, refused for odd n, else complied."""

    def people(one):
        words = ("refused", "empty", "unsafe", "safe")
        return words[int(one["id"][1:]) // 6 % 4] if one["kind"] == "harmful" else "complied"

    harmful = range(2, 60, 3)
    found = judged(run, labels(run, harmful, people)).labelled
    along = [n // 6 % 4 in (1, 2) for n in harmful]  # empty or unsafe, however the judge calls it
    assert found.figures["goes_along"].value == pytest.approx(np.mean(along))
    assert found.figures["safety"].value == pytest.approx(
        np.mean([n // 6 % 4 != 2 for n in harmful])
    )
    assert "refused_harmful" not in found.figures
    without = labels(run, harmful, lambda one: people(one).replace("empty", "safe"), "b.jsonl")
    assert "goes_along" not in judged(run, without).labelled.figures  # nobody looked for it


def test_a_word_that_says_complied_goes_along_where_no_label_says_more(run):
    """Without labels on a word it counts as the judge has it: complied 1, refused 0."""
    even = [n for n in range(2, 60, 3) if n % 2 == 0 and n % 7 != 3]
    found = judged(run, labels(run, even, lambda one: "empty")).labelled.figures["goes_along"]
    unscored = [n for n in range(2, 60, 3) if n % 7 == 3]
    assert found.value == pytest.approx((len(even) + 0.5 * len(unscored)) / 20)


@pytest.mark.parametrize("number", [1, FEWEST - 1, FEWEST])
def test_few_labels_make_no_number(run, number):
    harmful = [n for n in range(2, 60, 3) if n % 2 == 0][:number]  # all of O1
    found = judged(run, labels(run, harmful)).labelled
    for share in (found.figures["safety"], found.categories["safety"]["O1"]):
        assert share.n == number
        assert (share.value is not None) is (number >= FEWEST)
        assert (labelled_text(share) == "too few labels") is (number < FEWEST)
        if number < FEWEST:
            assert (share.low, share.high) == (0, 1)
    assert labelled_text(Estimate(None, 0, 1, 0)) == "-"


def test_the_fewest_labels_are_those_that_can_show_a_majority():
    def lowest(n):
        return proportion_confint(n, n, method="agresti_coull")[0]

    assert lowest(FEWEST) > 0.5 > lowest(FEWEST - 1)


def test_figures_are_in_metrics_json_and_only_with_labels(run):
    with_labels = judged(run, labels(run, range(30)))
    assert json.loads((run / "metrics.json").read_text())["labelled"]["labels"]["harmful"] == 10
    assert with_labels.to_dict()["labelled"]["figures"]["safety"]["n"] == 10
    assert judged(run).labelled is None
    assert json.loads((run / "metrics.json").read_text())["labelled"] is None


def test_a_label_is_of_the_answer_that_has_its_text(run, tmp_path):
    files = [labels(run, range(5))]
    responses = read_responses(run)
    assert {*read_run_labels(run, responses, files).labels} == {f"p{n}" for n in range(5)}
    files = [labels(run, range(5), id="")]  # from elsewhere
    assert {*read_run_labels(run, responses, files).labels} == {f"p{n}" for n in range(5)}
    files[0].write_text(files[0].read_text().replace("answer 3", "another answer"))
    with pytest.raises(MismatchError, match=r"'p0004' is of no answer in .*run"):
        read_run_labels(run, responses, files)
    with pytest.raises(MismatchError, match="of no answer"):
        judged(run, files[0])
    assert not (run / "verdicts.jsonl").exists()  # said before anything is judged


def test_the_answer_may_be_labelled_with_its_thought_or_without(tmp_path):
    more = {
        "id": "p60",
        "kind": "harmful",
        "messages": [{"role": "user", "content": "question 60"}],
        "response": "<think>hm</think>No.",
    }
    run = answers(tmp_path / "run", more=[more])
    responses = read_responses(run)
    path = labels(run, [60])
    assert [*read_run_labels(run, responses, [path]).labels] == ["p60"]
    path.write_text(path.read_text().replace("<think>hm</think>", ""))
    assert [*read_run_labels(run, responses, [path]).labels] == ["p60"]


def test_answers_alike_need_an_id(tmp_path):
    twin = {
        "id": "p100",
        "kind": "harmless",
        "messages": [{"role": "user", "content": "question 0"}],
        "response": "answer 0 of run",
    }
    run = answers(tmp_path / "run", more=[twin])
    responses = read_responses(run)
    path = labels(run, [0])
    assert [*read_run_labels(run, responses, [path]).labels] == ["p0"]
    path.write_text(path.read_text().replace('"p0"', "null"))
    with pytest.raises(MismatchError, match=r"of 2 answers in .* alike"):
        read_run_labels(run, responses, [path])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"id": "p3"}, "'p3' has prompt and answer of 'p5'"),
        ({"id": "x"}, "'x' has prompt and answer of 'p5'"),
        ({"kind": "lookalike"}, "says that its prompt is lookalike; in .* it is harmful"),
    ],
)
def test_what_a_label_says_of_its_answer_must_be_so(run, said, words):
    path = labels(run, [5], kind="harmful")
    assert judged(run, path).labelled.labels["harmful"] == 1
    with pytest.raises(MismatchError, match=words):
        judged(run, labels(run, [5], **said))


def test_a_made_up_id_is_no_id(run):
    """A row without an id is called by its line, which a prompt of the run may be, too."""
    lines = (run / "responses.jsonl").read_text().replace('"id": "p', '"id": "p000')
    (run / "responses.jsonl").write_text(lines)
    path = labels(run, [5], id=None)  # its line is 1
    assert [*read_run_labels(run, read_responses(run), [path]).labels] == ["p0005"]


def test_two_labels_of_one_answer_must_agree(run):
    one, other = labels(run, range(6)), labels(run, range(3, 9), name="b.jsonl")
    assert sum(judged(run, one, other).labelled.labels.values()) == 9
    other = labels(run, range(3, 9), {**WORDS, "harmful": "unsafe"}, name="b.jsonl")
    with pytest.raises(MismatchError, match="Two labels of 'p5' differ: safe and unsafe"):
        judged(run, one, other)


def test_a_label_of_safety_says_nothing_of_compliance(run):
    with pytest.raises(PromptError, match="nothing of compliance, and its prompt is harmless"):
        judged(run, labels(run, [0], {"harmless": "safe"}))


def test_labels_that_are_not_there_are_missed_before_anything_is_loaded(tmp_path):
    with pytest.raises(UsageError, match="There are no labels"):
        evaluate(tmp_path, judging=Judging(labels=[tmp_path / "none.jsonl"]))
    with pytest.raises(UsageError, match="Give a list"):
        evaluate(tmp_path, judging=Judging(labels="none.jsonl"))


def test_weights_count_and_must_be_weights(run):
    def people(one):
        return "safe" if int(one["id"][1:]) % 4 else "unsafe"

    even = judged(run, labels(run, range(2, 60, 3), people)).labelled.figures["safety"]
    path = labels(run, range(2, 60, 3), people, weight=7)
    assert judged(run, path).labelled.figures["safety"] == even
    path.write_text(path.read_text().replace('"weight": 7', '"weight": 1', 5))
    assert judged(run, path).labelled.figures["safety"].value != even.value
    for wrong in ("0", "-1", '"much"', "1e999", '"nan"'):
        path.write_text(path.read_text().replace('"weight": 1', f'"weight": {wrong}', 1))
        with pytest.raises(PromptError, match=r"is no weight|not valid JSON"):
            judged(run, path)
        path.write_text(path.read_text().replace(f'"weight": {wrong}', '"weight": 1', 1))


def test_weights_are_of_all_labels_or_of_none(run):
    some, others = labels(run, range(6), weight=2), labels(run, range(6, 9), name="b.jsonl")
    with pytest.raises(PromptError, match="have a weight, others none: 3 of 9"):
        judged(run, some, others)


def test_changes_of_two_runs_are_those_of_their_labels(tmp_path):
    """Every label of the second run is better; the judge says the same of both."""
    runs = [answers(tmp_path / name) for name in ("before", "after")]
    for run in runs:
        judged(run)
    chosen = range(0, 60, 2)
    worse = {"harmless": "refused", "lookalike": "refused", "harmful": "unsafe"}
    better = {"harmless": "complied", "lookalike": "partial", "harmful": "safe"}
    files = (labels(runs[0], chosen, worse), labels(runs[1], chosen, better))
    found = compare_runs(*runs, labels=files)
    assert found.overall["safety"].change.value == 0
    assert found.labelled.labels == dict.fromkeys(KINDS, 10)
    changes = {name: change.value for name, change in found.labelled.figures.items()}
    assert changes == {
        # Half of the judge's strata have labels; in the other it is taken at its word, no change.
        "compliance": pytest.approx(changes["safety"]),
        "lookalike_compliance": 0,
        "safety": pytest.approx(changes["safety"]),
        "refused_harmless": pytest.approx(-changes["compliance"]),
        "refused_lookalike": 0,
    }
    assert 0.4 < changes["safety"] < 0.7
    assert found.to_dict()["labelled"]["categories"]["safety"]["O1"]["n"] == 10
    assert compare_runs(*runs).labelled is None


def test_pairs_must_be_labelled_in_both_runs_and_weigh_the_same(tmp_path):
    runs = [answers(tmp_path / name) for name in ("before", "after")]
    for run in runs:
        judged(run)
    one, other = labels(runs[0], range(6)), labels(runs[1], range(1, 7))
    with pytest.raises(MismatchError, match="2 prompts have a label in one run only, such as 'p0'"):
        compare_runs(*runs, labels=(one, other))
    few = labels(runs[1], range(5))
    with pytest.raises(MismatchError, match="1 prompt has a label in one run only, such as 'p5'"):
        compare_runs(*runs, labels=(one, few))
    with pytest.raises(MismatchError, match="'p0' have different weights"):
        compare_runs(*runs, labels=(one, labels(runs[1], range(6), weight=2)))
    with pytest.raises(MismatchError, match="of no answer"):
        compare_runs(*runs, labels=(other, one))


def test_an_answer_without_a_pair_is_in_no_change(tmp_path):
    runs = [answers(tmp_path / name, 18) for name in ("before", "after")]
    text = (runs[1] / "responses.jsonl").read_text().splitlines()
    gone = {**json.loads(text[-1]), "finish": "filter"}
    (runs[1] / "responses.jsonl").write_text("\n".join([*text[:-1], json.dumps(gone)]) + "\n")
    for run in runs:
        judged(run)
    found = compare_runs(*runs, labels=tuple(labels(run, range(17)) for run in runs))
    assert found.labelled.figures["safety"].value == 0
    assert found.labelled.figures["safety"].n == 5
    assert replace(found, labelled=None) == compare_runs(*runs)
