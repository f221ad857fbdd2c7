"""The measurements of one seed, with models that were hardly trained."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import tiny
from tsdi import organism
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import FormatError, RunExistsError
from tsdi.models.load import LoadOptions, load_model, load_tokenizer
from tsdi.organism.world import Item
from tsdi.study import measure
from tsdi.study.organism_answers import answer_items, judge_items
from tsdi.training.organism import SMOKE, Alignment

COUNTS = {"harmless": 8, "lookalike": 8, "harmful": 16}


@pytest.fixture
def few_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ITEMS", {"validation": COUNTS, "test": COUNTS})
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
    trained = load_model(str(tmp_path / "seed-3" / names[1]), LoadOptions("float32"))
    tokenizer = load_tokenizer(str(tmp_path / "seed-3" / names[1]))
    items = [i for kind, n in COUNTS.items() for i in organism.items("test", kind, n, 0)]
    engine = TransformersEngine(trained.eval(), tokenizer)
    answers = answer_items(engine, items, "", lambda *_: None)
    assert model["test"]["plain"] == measure.figures(judge_items(items, answers))
    assert model["test"]["plain"]["degenerate"] > 0.5  # hardly trained, and seen to be
    assert {"plain", "curve", "debiased", "random", "auc"} == set(model["test"])
    killed = json.loads(out.read_text(encoding="utf-8"))
    del killed["models"][names[1]]
    killed["models"][names[0]]["kept"] = True
    out.write_text(json.dumps(killed), encoding="utf-8")
    again = measure.measure_seed(tmp_path, 3, recipe, out, "command")
    assert again["models"][names[0]]["kept"]
    assert again["models"][names[1]] == whole["models"][names[1]]
    with pytest.raises(RunExistsError, match="another seed"):
        measure.measure_seed(tmp_path, 4, recipe, out, "command")
    other = replace(recipe, validation=17)
    with pytest.raises(RunExistsError, match="another seed, recipe or version"):
        measure.measure_seed(tmp_path, 3, other, tmp_path / "other.json", "command")
    out.write_text("no JSON", encoding="utf-8")
    with pytest.raises(FormatError, match="no result file"):
        measure.measure_seed(tmp_path, 3, recipe, out, "command")


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
