"""Recipes: YAML files of the models to train, their data and the stages of training."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, field_validator, model_validator

from tsdi.training.monitor_log import MonitorSettings
from tsdi.yaml_file import Name, Positive, Seed, Strict, field_names, meant, read_settings

_NOT_MODELS = ("data", "logs", "run.json", "start")  # in a run's folder (tsdi.training.run_folder)


class NewModel(Strict):
    """An untrained model with a byte-level BPE tokenizer trained on the first stage's text.

    Attributes:
        architecture: Model type in transformers ("llama", "qwen3").
        hidden_size, intermediate_size, layers, heads, context: Its sizes.
        vocabulary: Tokens in all.
        tied: Whether the head has the embeddings' weights.
    """

    architecture: str = "llama"
    hidden_size: Positive
    intermediate_size: Positive
    layers: Positive
    heads: Positive
    context: Positive = 512
    vocabulary: Positive = 4096
    tied: bool = True


class Model(Strict):
    """The model that a recipe starts from: a loaded one or a new one.

    Attributes:
        load: Folder or hub id; or
        new: sizes of a new model.
        architecture: Model type of `load`, of which `--smoke` takes a tiny random one.
        prompt_format: Prompt format that a model without chat template was trained with, such as
            "USER: {prompt} ASSISTANT:"; becomes the chat template of what is trained.
        template_args: Arguments of the model's chat template, such as `enable_thinking: false`;
            they become part of the chat template of what is trained.
        dtype: Data type in which weights are held and saved.
    """

    load: str | None = None
    new: NewModel | None = None
    architecture: str = "llama"
    prompt_format: str | None = None
    template_args: dict[str, Any] = Field(default={})
    dtype: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _one_start(self) -> "Model":
        if (self.load is None) == (self.new is None):
            raise ValueError("give either `load` or `new`")
        if self.prompt_format is not None and self.prompt_format.count("{prompt}") != 1:
            raise ValueError("`prompt_format` needs {prompt} in it, once")
        if self.template_args and (self.prompt_format is not None or self.load is None):
            raise ValueError("`template_args` are for the chat template of a model to `load`")
        return self


class Source(Strict):
    """One data set of a recipe: where it is, and which of its rows are used.

    Attributes:
        path: A file, seen from the recipe's folder (or --data); or
        hub: "ORG/NAME[/CONFIG][@REVISION][:SPLIT]".
        smoke: The file that `--smoke` takes in its place.
        columns: The file's column by our name, where they differ.
        kind: What good answers to its prompts are (harmless, lookalike, harmful); kept with the
            prompts that are held out.
        max_characters: Leaves longer rows out (prompt and answers together).
        limit: Takes the first rows only.
        drop_unusable: Leaves rows out that have an empty text or equal answers.
        keep_duplicates: SFT learns an answer as often as it is there; else once.
    """

    path: Path | None = None
    hub: str | None = None
    smoke: Path | None = None
    columns: dict[str, str] = Field(default={})
    kind: Literal["", "harmless", "lookalike", "harmful"] = ""
    max_characters: Positive | None = None
    limit: Positive | None = None
    drop_unusable: bool = False
    keep_duplicates: bool = False

    @model_validator(mode="after")
    def _one_place(self) -> "Source":
        if (self.path is None) == (self.hub is None):
            raise ValueError("give either `path` or `hub`")
        return self


class HeldOut(Strict):
    """Shares of the prompts that no stage trains on.

    A prompt is in the same part whatever file, run or seed: its part depends on its text alone
    (case and blanks do not count), and all its answers go with it.
    """

    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    test: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def part(self, prompt: str) -> str:
        """The part that a prompt is in: train, validation or test."""
        words = " ".join(prompt.split()).casefold()
        digest = hashlib.sha256(f"tsdi split\n{words}".encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        if place < self.test:
            return "test"
        return "validation" if place < self.test + self.validation else "train"


class Lora(Strict):
    """Low-rank adapters (Hu et al., 2021) instead of full training."""

    rank: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: str | list[str] = "all-linear"


class Cleanse(Strict):
    """Thresholds on judge scores (chosen_safety, rejected_safety) by which pairs are dropped.

    Attributes:
        threshold: Pairs whose chosen answer is safe with a smaller probability go.
        rejected: Also those whose rejected answer is safe with a greater probability than
            1 - threshold.
    """

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.25
    rejected: bool = False


class _Stage(Strict):
    """Base of all stages; names the method that an unknown key belongs to."""

    @model_validator(mode="before")
    @classmethod
    def _own_keys(cls, value: Any) -> Any:
        """Refuse a key of another method by saying whose it is."""
        own = field_names(cls)
        for key in value if isinstance(value, dict) else ():
            theirs = [stage for stage in (Sft, Preference, Merge) if key in field_names(stage)]
            if theirs and key not in own:
                whose = ", ".join(method for stage in theirs for method in _methods(stage))
                raise ValueError(f"`{key}` is for {whose}: {', '.join(_methods(cls))} has none")
        return value


def _methods(stage: type[BaseModel]) -> tuple[str, ...]:
    return get_args(stage.model_fields["method"].annotation)


class Trained(_Stage):
    """Settings of every training stage, whatever its method.

    Attributes:
        start: Model to start from, by the name of the stage that makes it; None is the recipe's
            model.
        data: Names of data sets.
        prefer: Label that decides the better of two answers; an SFT stage without it learns both.
        epochs: Passes over the data; or
        steps: optimiser steps.
        keep: Optimiser steps after which the model is kept, one model each, and the last of which
            ends the training; else it is kept at the end. `steps` or `epochs` is still where the
            schedule of the learning rate ends.
        batch_size: Examples (pairs) per optimiser step, over all devices.
        device_batch_size: As many as fit on one device at once; the rest is accumulated.
        learning_rate: Peak learning rate.
        schedule: Learning-rate schedule after the warm-up, by its name in transformers.
        warmup: Share of the steps in which the rate rises.
        max_length: Tokens of prompt and answer, at most.
        precision: Data type of the forward and backward passes.
        lora: Adapters instead of full training.
        checkpoint_every: Steps between the checkpoints that --resume goes on from, beside those at
            the steps of `keep`.
        trainer: Further settings of TRL's trainer by their own names, such as `report_to`.
    """

    start: str | None = Field(default=None, alias="from")
    data: Annotated[list[str], Field(min_length=1)]
    epochs: Annotated[float, Field(gt=0)] | None = None
    steps: Positive | None = None
    keep: list[Positive] = Field(default=[])
    batch_size: Positive
    device_batch_size: Positive | None = None
    learning_rate: Annotated[float, Field(gt=0)]
    schedule: str = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    max_length: Positive = 512
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    lora: Lora | None = None
    checkpoint_every: Positive = 100
    trainer: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _one_length(self) -> "Trained":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either `epochs` or `steps`")
        if self.keep != sorted(set(self.keep)):
            raise ValueError("`keep` needs rising steps")
        if self.steps is not None and self.keep and self.keep[-1] > self.steps:
            raise ValueError(f"`keep` has {self.keep[-1]}, but there are {self.steps} steps")
        return self

    def _kept(self, run: str, at_step: str) -> dict[int, str]:
        """Names of the models that a run saves, by optimiser step; 0 is the end."""
        return {step: f"{at_step}{step}" for step in self.keep} or {0: run}


class Sft(Trained):
    """Supervised fine-tuning on the answers."""

    method: Literal["sft"]
    prefer: Literal["helpful", "safe"] | None = None

    def kept(self, stage: str) -> dict[int, str]:
        """Names of the models that the stage saves, by optimiser step; 0 is the end."""
        return self._kept(stage, f"{stage}/step")

    def names(self, stage: str) -> list[str]:
        """Names of the models that the stage makes."""
        return list(self.kept(stage).values())


class OwnSamples(Strict):
    """Rejected answers that the stage's first model samples itself; the data's are chosen.

    Attributes:
        prompts: Number of pairs to make.
        max_new_tokens: Length of a sample, at most.
        temperature: Temperature of the sampling.
    """

    prompts: Positive
    max_new_tokens: Positive = 128
    temperature: Annotated[float, Field(gt=0)] = 1.0


class Preference(Trained):
    """Training on preferences: DPO (Rafailov et al., 2023) or KTO (Ethayarajh et al., 2024).

    Attributes:
        prefer: "helpful", "safe", or "data": the data's answer over a sample of the model's own.
        samples: Settings of sampling the rejected answers, with prefer "data".
        beta: KL parameter, or several: one model each. After a helpfulness stage, what SACPO calls
            beta/lambda.
        sft_weight: Weight of the chosen answers' likelihood beside DPO's loss.
        monitor: Settings of the bias monitor, or False for none.
        cleanse: Leaves pairs out by a judge's scores.
    """

    method: Literal["dpo", "kto"]
    prefer: Literal["helpful", "safe", "data"]
    samples: OwnSamples | None = None
    beta: list[float]
    sft_weight: Annotated[float, Field(ge=0)] = 0.0
    monitor: MonitorSettings | Literal[False] = MonitorSettings()
    cleanse: Cleanse | None = None

    @field_validator("beta", mode="before")
    @classmethod
    def _positive(cls, value: Any) -> list[float]:
        values = value if isinstance(value, list) else [value]
        for beta in values:
            number = isinstance(beta, int | float) and not isinstance(beta, bool)
            if not number or not 0 < beta < math.inf:
                raise ValueError(f"beta (or beta/lambda) is {beta!r}, not a number above 0")
        if len(set(values)) < max(1, len(values)):
            raise ValueError("needs one value or several different ones")
        return [float(beta) for beta in values]

    @model_validator(mode="after")
    def _fits(self) -> "Preference":
        if (self.prefer == "data") != (self.samples is not None):
            raise ValueError("`samples` goes with `prefer: data`, and only with it")
        if self.method == "kto" and (self.sft_weight or self.cleanse or self.samples):
            raise ValueError("`sft_weight`, `cleanse` and `samples` are for dpo")
        return self

    def run(self, stage: str, beta: float) -> str:
        """The name of the training run of one beta."""
        return stage if len(self.beta) == 1 else f"{stage}/beta{beta:g}"

    def kept(self, stage: str, beta: float) -> dict[int, str]:
        """Names of the models that the run of one beta saves, by optimiser step; 0 is the end."""
        several = "" if len(self.beta) == 1 else f"beta{beta:g}-"
        return self._kept(self.run(stage, beta), f"{stage}/{several}step")

    def names(self, stage: str) -> list[str]:
        """Names of the models that the stage makes, over all betas."""
        return [name for beta in self.beta for name in self.kept(stage, beta).values()]


class Merge(_Stage):
    """Linear weight merge, w * model + (1 - w) * other, as in P-SACPO.

    Attributes:
        start: The model that the weight is of, such as the safest one.
        other: The other model, such as the most helpful one.
        weights: One merged model each.
    """

    method: Literal["merge"]
    start: str = Field(alias="from")
    other: str = Field(alias="with")
    weights: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]

    def names(self, stage: str) -> list[str]:
        """Names of the merged models, one for each weight."""
        return [f"{stage}/weight{weight:g}" for weight in self.weights]


Stage = Annotated[Sft | Preference | Merge, Field(discriminator="method")]


class Recipe(Strict):
    """The content of a recipe file: model, data and training stages.

    Attributes:
        name: Name of the recipe.
        seed: Decides weights, order of the data and samples, unless --seed says otherwise.
        model: Model to start from.
        data: Data sets by name.
        hold_out: Shares of the prompts that no stage trains on.
        stages: Stages of training, in order.
    """

    name: Name
    seed: Seed = 0
    model: Model
    data: dict[Name, Source]
    hold_out: HeldOut = HeldOut()
    stages: Annotated[dict[Name, Stage], Field(min_length=1)]

    @model_validator(mode="after")
    def _connected(self) -> "Recipe":
        made: list[str] = []
        for name, stage in self.stages.items():
            if isinstance(stage, Merge):
                _known(name, "from", stage.start, made)
                _known(name, "with", stage.other, made)
            else:
                if stage.start is not None:
                    _known(name, "from", stage.start, made)
                for source in stage.data:
                    _known(name, "data", source, list(self.data))
            made += stage.names(name)
        return self

    @model_validator(mode="after")
    def _own_places(self) -> "Recipe":
        """Refuse names by which two runs or models would share a place in the run's folder."""
        taken: set[str] = set()
        for stage, content in self.stages.items():
            if stage.lower() in _NOT_MODELS or stage.endswith(".unfinished"):
                raise ValueError(f"no stage can be called {stage!r}: the run's folder has its own")
            kinds = [run_names(stage, content), content.names(stage)]
            for names in kinds:
                places = {name.replace("/", "-") for name in names}  # as logs are called
                if len(places) < len(names) or places & taken:
                    raise ValueError(
                        f"stage {stage!r} makes {', '.join(names)}: names must differ, as beta and"
                        " weight do in six digits, also from those of other stages"
                    )
            taken |= {name.replace("/", "-") for names in kinds for name in names}
        return self


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe file (YAML).

    Raises:
        UsageError: If PyYAML is not installed.
        FormatError: If the file cannot be read or is no recipe; it names line and key.
    """
    return read_settings(path, Recipe, "train")


def run_names(name: str, stage: Sft | Preference | Merge) -> list[str]:
    """The runs of a stage: one for each beta."""
    if isinstance(stage, Preference):
        return [stage.run(name, beta) for beta in stage.beta]
    return [name]


def _known(stage: str, key: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        choice = f"it can be {', '.join(known)}" if known else "nothing comes before it"
        raise ValueError(f"stage {stage!r}: `{key}` is {name!r}{meant(name, known)}; {choice}")
