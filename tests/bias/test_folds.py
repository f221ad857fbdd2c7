"""Splits for cross-validation keep groups whole and share out both kinds."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsdi.bias.folds import folds
from tsdi.errors import PromptError


class TestFolds:
    @given(
        st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=60, max_size=80).filter(
            lambda rows: all(len({g for h, g in rows if h == kind}) > 6 for kind in (True, False))
        )
    )
    def test_each_prompt_is_held_out_once_and_groups_stay_whole(self, rows):
        harmful = torch.tensor([kind for kind, _ in rows])
        groups = [str(group) for _, group in rows]
        parts = list(folds(harmful, groups))
        assert torch.equal(torch.stack(parts).sum(0), torch.ones(len(rows), dtype=torch.long))
        for part in parts:
            held = {group for group, inside in zip(groups, part.tolist(), strict=True) if inside}
            left = {
                group for group, inside in zip(groups, part.tolist(), strict=True) if not inside
            }
            assert not held & left

    def test_kinds_are_spread_evenly(self):
        harmful = torch.arange(90) % 3 == 0
        for part in folds(harmful, [str(n) for n in range(90)]):
            assert (int((part & harmful).sum()), int((part & ~harmful).sum())) == (6, 12)

    def test_prompts_of_one_group_cannot_be_held_out(self):
        harmful = torch.arange(20) % 2 == 0
        groups = ["one" if kind else str(n) for n, kind in enumerate(harmful.tolist())]
        with pytest.raises(PromptError, match="Nearly all harmful prompts are of one group"):
            list(folds(harmful, groups))

    def test_prompts_of_one_kind_alone_are_split(self):
        parts = list(folds(torch.zeros(11, dtype=torch.bool), [str(n) for n in range(11)]))
        assert torch.stack(parts).sum(1).tolist() == [3, 2, 2, 2, 2]
