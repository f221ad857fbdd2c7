"""Options of loading and running the models of an estimate."""

from dataclasses import dataclass

from tsdi.arguments import check_counts
from tsdi.cluster import Cluster
from tsdi.engines.choice import EngineChoice
from tsdi.errors import UsageError
from tsdi.models.load import LoadOptions


@dataclass(frozen=True)
class Loading:
    """Options of loading and running two models.

    Attributes:
        options: Options of loading the weights.
        one_at_a_time: Never hold both in memory, not even where it has room.
        batch_size: Prompts in a forward pass; halved when memory runs out. Of vLLM, which makes its
            own batches, eight times as many are asked and kept at once.
        engine: The engine that gives the logits of random prompts: transformers, or vllm.
        cluster: Workers that sum random prompts side by side, each with models of its own; None is
            this process alone.

    Raises:
        UsageError: If the engine is another, or transformers with arguments of its own.
    """

    options: LoadOptions = LoadOptions()
    one_at_a_time: bool = False
    batch_size: int = 32
    engine: EngineChoice = EngineChoice()
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        check_counts(self, "batch_size")
        if self.engine.name not in ("transformers", "vllm"):
            raise UsageError("Biases are estimated by transformers or vllm.", "Take one of them.")
        if self.engine.name == "transformers" and self.engine != EngineChoice():
            raise UsageError("Here --engine-arg is for --engine vllm.", "Leave it out.")
