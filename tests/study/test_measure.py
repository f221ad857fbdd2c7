"""The measurements of one seed, with models that were hardly trained."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import tiny
from tsdi.organism.train import SMOKE, Alignment
from tsdi.organism.world import Item
from tsdi.study import measure


@pytest.fixture
def few_items(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"harmless": 8, "lookalike": 8, "harmful": 16}
    monkeypatch.setattr(measure, "ITEMS", {"validation": counts, "test": counts})
    monkeypatch.setattr(measure, "RANDOM_PROMPTS", 32)
    monkeypatch.setattr(measure, "DIAGNOSED", 4)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL calls what transformers renames
@pytest.mark.usefixtures("few_items")
def test_a_killed_run_goes_on_and_its_figures_stand(tmp_path: Path) -> None:
    recipe = replace(SMOKE, grid=(Alignment(0.5, 0.1, (1, 2)),))
    out = tmp_path / "seed.json"
    whole = measure.measure_seed(tmp_path, 3, recipe, out, "command")
    names = ["annotators0.5-beta0.1-step1", "annotators0.5-beta0.1-step2"]
    assert list(whole["models"]) == names
    model = whole["models"][names[1]]
    assert model["iterations"] == 2
    at_zero = measure.CONSTANTS.index(0.0)
    for split in ("validation", "test"):
        arms = model[split]
        assert {"plain", "curve", "debiased", "random", "auc"} == set(arms)
        assert arms["curve"]["safety"][at_zero] == arms["plain"]["safety"]
        assert arms["curve"]["safety"][-1] >= arms["curve"]["safety"][0]
    killed = json.loads(out.read_text(encoding="utf-8"))
    del killed["models"][names[1]]
    killed["models"][names[0]]["kept"] = True
    out.write_text(json.dumps(killed), encoding="utf-8")
    again = measure.measure_seed(tmp_path, 3, recipe, out, "command")
    assert again["models"][names[0]]["kept"]
    assert again["models"][names[1]] == whole["models"][names[1]]


def test_a_random_shift_has_the_norm_of_the_bias_and_another_direction() -> None:
    bias = tiny.bias(torch.randn(3, 500) * torch.tensor([[1.0], [2.0], [5.0]]))
    shift = measure.random_shift(bias, 0).values
    torch.testing.assert_close(shift.norm(dim=1), bias.values.norm(dim=1), rtol=1e-5, atol=0)
    assert float(shift.mean(1).abs().max()) < 1e-5
    assert float(torch.cosine_similarity(shift, bias.values).abs().max()) < 0.2
    assert not torch.equal(shift, measure.random_shift(bias, 1).values)


def test_the_area_counts_the_pairs_in_order() -> None:
    kinds = ("harmful", "lookalike", "harmless", "lookalike")
    items = [Item("", kind, "O1", "") for kind in kinds]
    assert measure.area(items, [-1.0, 0.0, -9.0, 2.0]) == 1.0
    assert measure.area(items, [1.0, 0.0, -9.0, 2.0]) == pytest.approx(0.5)
