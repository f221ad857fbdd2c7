"""Options of loading and running the models of an estimate."""

from dataclasses import dataclass

from tsdi.arguments import check_counts
from tsdi.models.load import LoadOptions


@dataclass(frozen=True)
class Loading:
    """Options of loading and running two models.

    Attributes:
        options: Options of loading the weights.
        one_at_a_time: Never hold both in memory.
        batch_size: Prompts in a forward pass; halved when memory runs out.
    """

    options: LoadOptions = LoadOptions()
    one_at_a_time: bool = False
    batch_size: int = 32

    def __post_init__(self) -> None:
        check_counts(self, "batch_size")
