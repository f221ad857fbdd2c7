"""What debiasing gives back and costs, from answers whose shares are known by hand."""

import pytest

from tests.study.made_results import made_results
from tsdi.study.answers import Answers
from tsdi.study.contrast_tables import AS_HELPFUL, EXPLAINED, GIVEN_BACK, RIVALS, contrast_tables
from tsdi.study.contrasts import contrasts, prompts_by_source
from tsdi.study.diagnosed import diagnoses
from tsdi.study.figures import openers
from tsdi.study.results import StudyResults
from tsdi.study.summarise import summarise


def answers(**changed):
    """Answers of changed results, without cells and biases of rules and models that are gone."""
    data = made_results() | changed
    of = {rule["name"]: rule["of"] for rule in data["rules"]}
    models = {f"seed{one['seed']}/{one['name']}" for one in data["members"]} | {"seed0/reference"}
    data["cells"] = [c for c in data["cells"] if c["name"] in of and c["model"] in models]
    data["biases"] = [one for one in data["biases"] if one["model"] in models]
    return Answers(StudyResults.from_dict(data))


@pytest.fixture(scope="module")
def data():
    return made_results()


@pytest.fixture(scope="module")
def found():
    return contrasts(answers())


def moved(some, name, measure="safety"):
    (one,) = [one for one in some if one.name == name]
    found = {**one.measures.titled(), "weakest": one.weakest}
    return found[measure].change.value


def test_what_alignment_takes_and_debiasing_returns(found):
    """Of 4 lookalikes the reference answers 4, the model of 20 steps 0, debiased 3."""
    key = "complied, lookalike"
    assert moved(found.lost, "beta0.1-step20", key) == -1.0
    assert moved(found.returned, "beta0.1-step20", key) == 0.75
    assert moved(found.returned, "beta0.1-step20") == -0.25  # safety: 6 of 8 instead of all
    assert [one.name for one in found.returned] == [m["name"] for m in made_results()["members"]]


def test_the_weakest_category_is_the_reference_s(found):
    """Debiased, O1 is the weaker one; the reference refuses no prompt of O3."""
    assert found.weakest == "O3"
    assert moved(found.lost, "beta0.1-step20", "weakest") == 1.0
    assert moved(found.returned, "beta0.1-step20", "weakest") == 0.0


def test_without_a_reference_the_plain_models_say_which_category_is_weak(data):
    rules = [rule for rule in data["rules"] if rule["name"] != "reference"]
    found = contrasts(answers(rules=rules))
    assert found.lost == ()
    assert found.weakest == "O3"  # of 10 steps


def test_the_rival_is_chosen_on_validation_prompts(found):
    """On test prompts the other beta's model would be the better rival."""
    rivals = {one.name: one.against for one in found.as_helpful}
    assert rivals == {"beta0.1-step20": "beta0.2-step10", "beta0.2-step20": "beta0.2-step10"}


def test_a_model_that_nobody_helps_as_much_as_has_no_rival(found):
    assert "beta0.1-step10" not in [one.name for one in found.as_helpful]


def test_the_ends_of_the_grid(found):
    assert [(one.name, one.against) for one in found.training] == [
        ("beta0.1-step20", "beta0.1-step10"),
        ("beta0.2-step20", "beta0.2-step10"),
        ("beta0.1-step10", "beta0.2-step10"),
        ("beta0.1-step20", "beta0.2-step20"),
    ]
    assert moved(found.training[:1], "beta0.1-step20") == 0.5


def test_a_grid_with_holes_has_no_ends(data):
    members = [one for one in data["members"] if one["name"] != "beta0.2-step10"]
    assert contrasts(answers(members=members)).training == ()


def test_every_other_rule_is_a_rival(found):
    assert [one.against for one in found.rivals] == ["plain", "reference"]
    assert moved(found.rivals[:1], "tsdi") == -0.25


def test_sources_are_those_of_the_study(found):
    assert {key: len(places) for key, places in prompts_by_source(answers()).items()} == {
        ("xstest", "harmful"): 4,
        ("more", "harmful"): 4,
        ("xstest", "lookalike"): 4,
    }
    shares = {(one.source, one.kind): one.debiasing.after.value for one in found.sources}
    assert shares == {
        ("xstest", "harmful"): 0.5,
        ("more", "harmful"): 1.0,
        ("xstest", "lookalike"): 0.75,
    }


def test_a_study_of_one_source_has_one(data):
    study = data["study"] | {"prompts": {"test": [{"load": "organism:test"}]}}
    found = prompts_by_source(answers(study=study))
    assert [name for name, _ in found] == ["organism", "organism"]


def test_gain_beside_the_share_explained(data):
    found = diagnoses(answers())
    assert [one.name for one in found.models] == [m["name"] for m in data["members"]]
    main = found.models[1]
    assert main.gain.value == 0.5  # safety - 1/4, helpful + 3/4
    assert main.explained["lookalike"].value == 0.2
    assert main.area["aligned minus reference"].value == pytest.approx(-0.1)
    assert found.rank.value == pytest.approx(-0.9487, abs=1e-4)
    assert found.kind == "lookalike"


def test_without_diagnoses_nothing_is_ranked():
    bias = {"model": "seed0/beta0.1-step10", "refusing": [1.0], "complying": [0.0], "error": [0.1]}
    found = diagnoses(answers(biases=[bias]))
    assert (found.models, found.rank.value) == ((), None)


def test_tables_say_the_same():
    made = contrast_tables(summarise(answers().results, 10), answers())
    assert made[GIVEN_BACK].header[-1] == "safe, O3 Adult Content: debiased minus aligned"
    assert made[GIVEN_BACK].rows[1][0] == "beta0.1-step20"
    assert made[AS_HELPFUL].rows[0][:2] == ["beta0.1-step20", "beta0.2-step10"]
    assert [row[0] for row in made[RIVALS].rows] == ["plain", "reference"]
    assert "Rank correlation" in made[EXPLAINED].note
    assert "-0.95" in made[EXPLAINED].note
    assert all(len(row) == len(one.header) for one in made.values() for row in one.rows)


def test_where_annotators_are_varied_shifts_are_drawn_over_them():
    members = [
        {**one, "beta": 0.1, "iterations": 20, "annotators": number / 10}
        for number, one in enumerate(made_results()["members"])
    ]
    figure = openers(summarise(answers(members=members).results, 10), later=False)
    assert [trace.x for trace in figure.data if trace.name == "beta 0.1, 20 iterations"] == [
        (0.0, 0.1, 0.2, 0.3)
    ]
    assert "annotators" in figure.layout.xaxis.title.text
