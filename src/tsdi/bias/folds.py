"""Cross-validation by whole groups of prompts, for conditions and first-order terms."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tsdi.errors import PromptError

FOLDS = 5


def folds(harmful: Tensor, groups: Sequence[str], number: int = FOLDS) -> Iterator[Tensor]:
    """Test sets of a cross-validation, bool [prompts], each with a share of both kinds.

    Groups stay whole. The largest go first, each to the part that has least of what it brings.

    Args:
        harmful: Whether each prompt is harmful, bool [prompts].
        groups: Group of every prompt, such as its suite or type; none is on both sides of a
            split, as near copies would be.
        number: Number of test sets, at most.

    Raises:
        PromptError: If the groups leave a side of a split without a kind that there is.
    """
    names = {name: n for n, name in enumerate(dict.fromkeys(groups))}
    group = torch.tensor([names[name] for name in groups])
    counts = torch.zeros(len(names), 2, dtype=torch.float64)
    counts.index_put_((group, harmful.long()), torch.ones(len(group)).double(), accumulate=True)
    counts /= counts.sum(0).clamp(min=1)  # shares of each kind
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randperm(len(names), generator=generator)  # not in the order of the file
    order = drawn[counts[drawn].sum(1).argsort(descending=True, stable=True)]
    held = torch.zeros(number, 2, dtype=torch.float64)
    place = torch.empty(len(names), dtype=torch.long)
    for one in order.tolist():
        place[one] = int((held * counts[one]).sum(1).argmin())
        held[place[one]] += counts[one]
    for part in range(number):
        test = place[group] == part
        if test.any():
            _check_split(harmful, ~test)
            yield test


def _check_split(harmful: Tensor, left: Tensor) -> None:
    for name, kind in (("harmful", harmful), ("harmless", ~harmful)):
        if kind.any() and int((kind & left).sum()) < 2:
            raise PromptError(
                f"Nearly all {name} prompts are of one group, so none can be held out.",
                "Give prompts of more suites or types; copies and near copies are of one group.",
            )
