"""Trainings that diverge: they end at the first loss or weight that is no finite number."""

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from tsdi.errors import NumericalError
from tsdi.models.fit import check_finite

_REMEDY = "Nothing of it is kept: take a smaller learning rate, or a longer warm-up."


def ending(base: type[Any], name: str) -> type[Any]:
    """A trainer class that ends where its loss is no finite number.

    transformers itself would go on, and log the mean of the losses before.
    """

    class Ending(base):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, items: Any = None) -> Tensor:
            loss: Tensor = super().training_step(model, inputs, items)
            if not loss.isfinite():
                step = self.state.global_step + 1
                raise NumericalError(
                    f"{name} diverges: the loss became {float(loss)} in step {step}.", _REMEDY
                )
            return loss

    Ending.__name__ = base.__name__
    return Ending


def check_kept(name: str, step: int, model: PreTrainedModel) -> None:
    """Raise NumericalError if a model that is to be kept has NaN or infinite weights."""
    try:
        check_finite(name, model.state_dict())
    except NumericalError as error:
        raise NumericalError(f"After step {step}: {error.problem}", _REMEDY) from None
