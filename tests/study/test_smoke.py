"""The studies that come along can be tried out: every one is small enough, and whole."""

from pathlib import Path

import pytest

from tsdi.bias.first_order.labelled import LEAST_PROMPTS
from tsdi.study.config import read_study
from tsdi.study.grid import count_cells
from tsdi.study.members import members
from tsdi.study.plan import plan
from tsdi.study.smoke import FEW, PROMPTS, STEPS, shrink

STUDIES = sorted((Path(__file__).parents[2] / "experiments").glob("*/study.yaml"))


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.parent.name)
def test_a_study_that_comes_along_is_made_small(file, tmp_path):
    whole = read_study(file)
    small, base = shrink(whole, tmp_path, tmp_path / "out")
    made = plan(small, base, file.parent, tmp_path / "out")
    assert [entry.name for entry in small.rules] == [entry.name for entry in whole.rules]
    assert {prompt.kind for prompt in made.prompts["test"]} == set(PROMPTS)
    assert all(max(e.settings.get("steps", (1,))) <= STEPS for e in small.rules)
    assert all(len(entry.candidates) <= FEW for entry in small.rules)
    assert len({member.name for member in made.members}) <= FEW
    assert {member.seed for member in made.members} - set(small.validation_seeds)
    assert count_cells(made) <= 450  # minutes, on one core
    for harmful in (True, False) if whole.prompts.fit else ():
        labelled = [p for p in made.prompts["fit"] if (p.kind == "harmful") == harmful]
        assert len({p.messages[-1]["content"] for p in labelled}) >= LEAST_PROMPTS
    if whole.organism is None:
        paths = [path for one in members(small, base, tmp_path) for path in one.paths.values()]
        assert all(Path(path, "model.safetensors").exists() for path in paths)
