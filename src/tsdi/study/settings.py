"""The sections of a study's file: models, prompts, judge, generation and estimation."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator, model_validator

from tsdi.engines.address import public_url
from tsdi.errors import UsageError
from tsdi.yaml_file import Positive, Seed, Strict

if TYPE_CHECKING:
    from tsdi.engines.choice import EngineChoice
    from tsdi.models.chat import ChatFormat

Share = Annotated[int, Field(ge=0)]
Number = int | float | str
Setting = dict[str, Number | None]
"""All parameters of a decoding rule; None takes what the study says."""


class Organism(Strict):
    """Model organisms that the study trains itself (`tsdi.training.organism`).

    Attributes:
        seeds: Training seeds.
        betas: DPO's KL parameters, a run of the safety step each.
        iterations: Optimiser steps after which a model is kept.
        annotators: Shares of the annotators who prefer refusals on harmless requests; several are
            a further key of the grid.
        smoke: Whether a smaller model is trained for a few steps, to try a study out.
    """

    seeds: tuple[Seed, ...] = Field(min_length=1)
    betas: tuple[float, ...] = Field(min_length=1)
    iterations: tuple[Positive, ...] = Field(min_length=1)
    annotators: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field((0.5,), min_length=1)
    smoke: bool = False

    @field_validator("annotators", mode="before")
    @classmethod
    def _one_share(cls, given: Any) -> Any:
        return (given,) if isinstance(given, int | float) else given


class Model(Strict):
    """An aligned model, or a grid of them.

    Attributes:
        name: Name of the model; with a grid, it has the grid's keys in it, as "beta{beta}".
        path: Folder or hub id, named so too; folders are seen from the study's own folder.
        reference: The model before the safety step, named so too.
        sft: The model before the helpfulness step, for the baselines that need it.
        proxy: An aligned model and its reference, whose difference proxy-tuning adds.
        others: More models by name, such as an earlier checkpoint, to be `reference` of a rule.
        grid: Values of beta, iterations and seed.
        beta, iterations, seed: Place in the grid of a single model.
    """

    name: str
    path: str
    reference: str
    sft: str | None = None
    proxy: tuple[str, str] | None = None
    others: dict[str, str] = Field(default={})
    grid: dict[
        Literal["beta", "iterations", "seed"], Annotated[tuple[float, ...], Field(min_length=1)]
    ] = Field(default={})
    beta: float | None = None
    iterations: int | None = None
    seed: Seed = 0

    @field_validator("grid")
    @classmethod
    def _whole_numbers(cls, grid: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
        """Refuse seeds and iterations that a single model could not have."""
        for key, most in (("seed", 2**32 - 1), ("iterations", 2**63 - 1)):
            for value in grid.get(key, ()):
                if not value.is_integer() or not 0 <= value <= most:
                    raise ValueError(f"{key} is a whole number from 0 on, not {value:g}")
        return grid


class Source(Strict):
    """One source of prompts.

    Attributes:
        load: Name as for `tsdi evaluate --prompts`: a file, a suite, hub:..., organism:test.
        kind: Kind of prompts that have none.
        columns: Columns of a file or hub data set, FIELD=COLUMN,...
        limit: Most prompts of each kind, spread over the categories.
        seed: Decides the organism's requests.
    """

    load: str
    kind: str = ""
    columns: str = ""
    limit: Positive | dict[Literal["harmless", "lookalike", "harmful"], Share] | None = None
    seed: Seed = 0


class Prompts(Strict):
    """The prompts of a study: for choosing settings, for results, and for fits.

    Attributes:
        test: Prompts of the results.
        validation: Prompts on which settings are chosen.
        fit: Labelled prompts that conditions are fitted to; for rules that have one.
        validation_share: Instead of `validation`: the share of the test prompts put aside for it,
            by a hash of their text.
    """

    test: tuple[Source, ...] = Field(min_length=1)
    validation: tuple[Source, ...] = ()
    fit: tuple[Source, ...] = ()
    validation_share: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "Prompts":
        if bool(self.validation) == (self.validation_share is not None):
            raise ValueError("give either `validation` or `validation_share`")
        return self


class JudgeSettings(Strict):
    """The judge of a study, and the pairwise judge of win rates.

    Attributes:
        name: Name as for `tsdi evaluate --judge`.
        url: Base URL of the judge's API.
        labels: Verdicts of a classifier's labels.
        dtype: Data type of a judge's weights.
        end_of_thinking: Marker as for `tsdi evaluate --end-of-thinking`.
        pairwise: Pairwise judge of the win rate: a model behind an OpenAI-compatible API.
            Without one, judges that see right answers give it: right against wrong wins.
        pairwise_url: Base URL of that API.
    """

    name: str
    url: str | None = None
    labels: str | None = None
    dtype: str = "auto"
    end_of_thinking: str = ""
    pairwise: str | None = None
    pairwise_url: str | None = None

    @field_validator("url", "pairwise_url")
    @classmethod
    def _urls(cls, url: str | None) -> str | None:
        try:
            if url is not None:
                public_url(url)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return url

    @field_serializer("url", "pairwise_url")
    def _without_secrets(self, url: str | None) -> str | None:
        """The URL without credentials and query, as results are made to be shared."""
        return url if url is None else public_url(url)


class Generation(Strict):
    """Options of greedy generation.

    Attributes:
        max_new_tokens: Most tokens in an answer.
        batch_size: Prompts answered together.
        prompt_format: Used instead of the chat template.
        template_args: Arguments of the chat template.
        dtype: Data type of the weights.
        device_map: Device map of transformers.
        threads: CPU threads of a worker; default: OMP_NUM_THREADS, else an even share.
        engine: What answers: transformers, or vllm for the rules that it can follow.
        engine_args: Arguments of vLLM's own.
    """

    max_new_tokens: Positive = 256
    batch_size: Positive = 16
    prompt_format: str | None = None
    template_args: dict[str, Any] = Field(default={})
    dtype: str = "auto"
    device_map: str | None = None
    threads: Positive | None = None
    engine: Literal["transformers", "vllm"] = "transformers"
    engine_args: dict[str, Any] = Field(default={})

    @property
    def decides(self) -> dict[str, Any]:
        """The options that decide answers; of the engine only one that is not transformers."""
        found = self.model_dump(exclude={"threads", "device_map"})
        if self.engine == "transformers":
            del found["engine"], found["engine_args"]
        return found

    @property
    def chat_format(self) -> "ChatFormat":
        """The chat format: a prompt format, or template arguments."""
        from tsdi.models.chat import ChatFormat

        return ChatFormat(self.prompt_format, self.template_args)

    @model_validator(mode="after")
    def _one_format(self) -> "Generation":
        try:
            _ = self.chat_format
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def choice(self) -> "EngineChoice":
        """The engine and its arguments."""
        from tsdi.engines.choice import EngineChoice

        return EngineChoice(self.engine, args=self.engine_args)

    @model_validator(mode="after")
    def _of_vllm(self) -> "Generation":
        if self.engine_args and self.engine != "vllm":
            raise ValueError("engine_args are for the engine vllm")
        try:
            self.choice.check()
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self


class Estimation(Strict):
    """Options of estimating biases, where a rule has none of its own.

    Attributes:
        prompts: Number of random prompts.
        steps: Number of response positions.
        prompt_tokens: Number of random tokens in a prompt.
        pool: Token pool by name, or a text file.
        seed: Seed of the random prompts.
        refusing, complying: Beginnings of refusing and complying answers; default: English.
        diagnose: The models whose biases are examined on prompts: none, the main ones, or all.
    """

    prompts: Positive = 512
    steps: Positive = 16
    prompt_tokens: Positive = 48
    pool: str = "neutral"
    seed: Seed = 0
    refusing: tuple[str, ...] = ()
    complying: tuple[str, ...] = ()
    diagnose: Literal["none", "main", "all"] = "main"
