"""results.json is checked as a whole: a damaged one gives no figures, and its part is named."""

import copy
import json
import re

import pytest

from tests.study.made_results import made_results
from tsdi.errors import FormatError
from tsdi.study.results import StudyResults, read_results
from tsdi.study.summarise import summarise
from tsdi.study.tables import tables

VALIDATED, TESTED = 2, 3
"""Places of two cells of the rule plain."""


def damaged(*place, value):
    content = copy.deepcopy(made_results())
    part = content
    for key in place[:-1]:
        part = part[key]
    if value is None:
        del part[place[-1]]
    else:
        part[place[-1]] = value
    return content


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (["cells", TESTED, "outcomes"], "RRRRCCCC", "outcomes: 8 for 12 test prompts"),
        (["cells", TESTED, "outcomes"], "R" * 13, "outcomes: 13 for 12 test prompts"),
        (["cells", TESTED, "outcomes"], "X" * 12, "cells.3.test.outcomes"),
        (["cells", TESTED, "attack"], "bare", "no attack 'bare'"),
        (["cells", TESTED, "wins"], [0.5], "wins: 1 for 12 test prompts"),
        (["cells", TESTED, "wins"], [1.5] * 12, "cells.3.test.wins.0"),
        (["cells", TESTED, "model"], "seed7/x", "no rule 'plain' of 'seed7/x'"),
        (["cells", TESTED, "name"], "X", "no rule 'X'"),
        (["cells", TESTED, "setting"], {"strength": 1}, "cells.3.setting"),
        (["cells", VALIDATED, "safety"], 3.5, "cells.2.validation.safety"),
        (["cells", VALIDATED, "help"], -2, "cells.2.validation.help"),
        (["cells", VALIDATED, "help"], True, "cells.2.validation.help"),
        (["cells", VALIDATED, "chosen"], False, "plain of seed0/beta0.1-step10 0 settings"),
        (["speed", "rules", "tsdi", "ratio"], [-5, -5], "speed.rules.tsdi.ratio.0"),
        (["speed", "rules", "tsdi", "ratio"], [1.0], "speed.rules.tsdi.ratio: 2 rounds"),
        (["speed", "rules", "tsdi", "bytes"], 0, "speed.rules.tsdi.bytes"),
        (["speed", "rules", "tsdi"], None, "speed.rules.tsdi: Field required"),
        (["study", "ks"], [0], "study.ks.0"),
        (["study", "judge"], None, "study.judge: Field required"),
        (["study", "prompts", "test", 1, "load"], None, "study.prompts.test.1.load"),
        (["main"], "X", "main: there is no model 'X'"),
        (["prompts", "test"], None, "prompts.test"),
        (["prompts", "test"], [["a", "harmful", ""]], "prompts.test: harmful prompts and"),
        (["prompts", "test", 1, 0], "1-a0", "'1-a0' stands 2 times"),
        (["prompts", "test", 1, 1], "evil", "prompts.test.1"),
        (["members", 1, "name"], "beta0.1-step10", "members: 'seed0/beta0.1-step10' stands 2"),
        (["members", 1, "seed"], 1, "members: not every seed has every model"),
        (["members"], 3, "members"),
        (["rules", 0, "name"], "other", "rules: there is no plain"),
        (["rules", 1, "name"], "plain", "rules: 'plain' stands 2 times"),
        (["rules", 2, "settings"], {"strength": []}, "rules.2.settings"),
        (["biases", 0, "model"], "seed0/x", "biases.0.model"),
        (["biases", 0, "refusing"], [1.0], "biases.0: not as many steps"),
        (["biases", 0, "shift", "lookalike", "value"], "x", "biases.0.diagnosed.shift.lookalike"),
        (["biases", 0, "shift", "lookalike", "n"], None, "biases.0.diagnosed.shift.lookalike"),
    ],
)
def test_a_damaged_part_is_named(place, value, said):
    with pytest.raises(FormatError, match=rf"damaged \(.*{re.escape(said)}"):
        StudyResults.from_dict(damaged(*place, value=value))


def test_a_cell_stands_once():
    content = made_results()
    content["cells"].append({**content["cells"][TESTED], "outcomes": "C" * 12})
    with pytest.raises(FormatError, match=r"cells\.18: it stands in cells\.3 already"):
        StudyResults.from_dict(content)


def test_prompts_of_another_split_are_not_taken_for_those_that_were_answered():
    content = made_results()
    prompts = content["prompts"]
    more = [[f"more{i}", "harmful", "O1"] for i in range(8)]
    content["prompts"] = {"test": prompts["test"][4:], "validation": [*prompts["test"], *more]}
    with pytest.raises(FormatError, match="outcomes: 12 for 8 test prompts"):
        StudyResults.from_dict(content)


def tuned(**changed):
    """Results in which plain had two settings to choose from."""
    content = made_results()
    content["rules"][0]["settings"] = {"strength": [0, 1]}
    for cell in [cell for cell in content["cells"] if cell["name"] == "plain"]:
        cell["setting"] = {"strength": 1}
        if cell["split"] == "validation":
            other = {**cell, "chosen": False, "setting": {"strength": 0}}
            content["cells"].append({**other, **changed})
    return content


def test_one_setting_is_chosen_and_tested():
    StudyResults.from_dict(tuned())
    with pytest.raises(FormatError, match="2 settings are chosen, where 1 should be"):
        StudyResults.from_dict(tuned(chosen=True))
    content = tuned()
    content["cells"][TESTED]["setting"] = {"strength": 0}
    with pytest.raises(FormatError, match="not the chosen settings are tested"):
        StudyResults.from_dict(content)


@pytest.mark.parametrize("version", [True, 2.0, 3, "2", None])
def test_another_version_is_refused(tmp_path, version):
    content = {**made_results(), "format_version": version}
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match="another version"):
        read_results(tmp_path)


def test_a_grid_without_iterations_has_all_its_tables_and_figures():
    pytest.importorskip("plotly")
    from tsdi.study.figures import figures

    content = made_results()
    for member in content["members"]:
        member["iterations"] = None
    summary = summarise(StudyResults.from_dict(content), resamples=20)
    assert tables(summary)
    drawn = figures(summary)
    assert "f2-safety" not in drawn
    assert "None iterations" not in str(drawn)
