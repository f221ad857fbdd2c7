"""A trained model learns where an answer ends, and says which tokens do."""

import pytest

from tests import tiny
from tests.cli.conftest import tsdi
from tests.training.made import PAIRS, recipe_file
from tests.training.test_rows import METHODS
from tsdi.errors import MismatchError
from tsdi.models.load import load_model
from tsdi.training.data import Example, Pair, Rating
from tsdi.training.recipe import Preference, Sft
from tsdi.training.trainers import Run, build_trainer

# TRL still calls it by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
EOS, END = 2, 6  # <eos>, which the tokenizer names, and <|end|>, which its template ends turns with
NO_END = tiny.TEMPLATE.replace("<|end|>", "")
STRIPS = NO_END.replace("m['content']", "m['content'] | replace('<eos>', '')")
ITEMS = {
    "sft": [Example("a river", "wheat")] * 4,
    "dpo": [Pair("a river", "wheat", "bread")] * 4,
    "kto": [Rating("a river", "wheat", good) for good in (True, False) * 2],
}


def trainer(folder, method, template):
    more = {} if method == "sft" else {"prefer": "safe", "beta": 0.1, "monitor": False}
    kind = Sft if method == "sft" else Preference
    stage = kind.model_validate(
        {"method": method, "data": ["d"], "steps": 1, "batch_size": 2, "learning_rate": 1e-3} | more
    )
    model, tokenizer = tiny.model(), tiny.tokenizer(template)
    beta = None if method == "sft" else 0.1
    run = Run(
        name="made",
        stage=stage,
        beta=beta,
        start="made",
        dtype="float32",
        keep={0: folder / "m"},
        work=folder / "w",
        reference=folder / "r",
        seed=0,
    )
    return build_trainer(run, model, tokenizer, ITEMS[method], [])


def learnt(made):
    """The ids of the answers that a trainer has labels for."""
    row = made.train_dataset[0]
    names = ("labels", "chosen_ids", "rejected_ids", "completion_ids")
    return [[i for i in row[name] if i != -100] for name in names if name in row]


@pytest.mark.parametrize("method", ITEMS)
def test_the_templates_end_of_turn_is_learnt_and_named_beside_the_tokenizers(tmp_path, method):
    made = trainer(tmp_path, method, tiny.TEMPLATE)
    assert all(ids[-1] == END and EOS not in ids for ids in learnt(made))
    assert made.model.generation_config.eos_token_id == [EOS, END]


@pytest.mark.parametrize("method", ITEMS)
def test_a_template_without_an_end_gets_the_tokenizers_with_a_notice(tmp_path, method, caplog):
    made = trainer(tmp_path, method, NO_END)
    assert all(ids[-1] == EOS and END not in ids for ids in learnt(made))
    assert "the chat template ends no answer, so the tokenizer's <eos> is put" in caplog.text


def test_a_template_that_lets_no_end_be_learnt_is_refused(tmp_path):
    with pytest.raises(MismatchError, match="would never learn to stop"):
        trainer(tmp_path, "sft", STRIPS)


@pytest.mark.parametrize("more", ["", "    lora: {rank: 2}\n"])
def test_the_kept_model_names_its_ends(tmp_path, more):
    tiny.model().save_pretrained(tmp_path / "start")
    tiny.tokenizer().save_pretrained(tmp_path / "start")
    model = f"{{load: {tmp_path / 'start'}}}"
    stage = METHODS["sft"].replace("60", "128").rstrip(" ") + more
    recipe = recipe_file(tmp_path, stage, pairs=PAIRS[:4], model=model, hold_out="{}")
    result = tsdi("train", recipe, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    kept = load_model(str(tmp_path / "out/made"))
    assert sorted(kept.generation_config.eos_token_id) == [EOS, END]
