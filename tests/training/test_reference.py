"""The reference's log-probabilities are computed for the rows that a run's steps reach."""

import pytest
import torch

from tests.training.test_losses import PAIRS_OF_MANY_LENGTHS, RATINGS, Setup
from tsdi.errors import TsdiError
from tsdi.training.reference import visited_rows

# TRL still calls it by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
METHODS = {"dpo": PAIRS_OF_MANY_LENGTHS, "kto": RATINGS}
COLUMNS = ("ref_chosen_logps", "ref_rejected_logps", "ref_logps", "ref_KL_logps")


def columns(setup):
    data = setup.trainer.train_dataset
    return {name: torch.tensor(data[name][:]) for name in COLUMNS if name in data.column_names}


@pytest.mark.parametrize("method", METHODS)
def test_only_rows_that_the_steps_reach_are_computed_and_as_before(tmp_path, method):
    few = {"batch_size": 2, "steps": 2}
    part = Setup(tmp_path / "part", method, METHODS[method], moved=0, **few)
    whole = Setup(tmp_path / "whole", method, METHODS[method], batch_size=2, steps=99)
    for name, found in columns(part).items():
        known = ~found.isnan()
        assert known.sum() == 4
        assert found[known].equal(columns(whole)[name][known])
    part.trainer.train()  # meets no other row
    assert part.trainer.state.global_step == 2


def test_a_step_that_meets_another_row_ends_the_run(tmp_path):
    setup = Setup(tmp_path, "dpo", PAIRS_OF_MANY_LENGTHS, batch_size=2, steps=2, moved=0)
    setup.trainer.args.max_steps = 4
    with pytest.raises(TsdiError, match="without the reference's log-probability"):
        setup.trainer.train()


def test_gradients_of_several_batches_make_a_step(tmp_path):
    several = {"batch_size": 4, "device_batch_size": 2, "steps": 1}
    setup = Setup(tmp_path, "dpo", PAIRS_OF_MANY_LENGTHS, moved=0, **several)
    assert (~columns(setup)["ref_chosen_logps"].isnan()).sum() == 4
    setup.trainer.train()


def test_where_the_order_is_not_known_all_rows_are_computed(tmp_path):
    free = {"accelerator_config": {"use_seedable_sampler": False}}
    setup = Setup(tmp_path, "dpo", PAIRS_OF_MANY_LENGTHS, batch_size=2, steps=1, trainer=free)
    data = setup.trainer.train_dataset
    assert visited_rows(setup.trainer, data) == list(range(len(data)))
    assert not columns(setup)["ref_chosen_logps"].isnan().any()
