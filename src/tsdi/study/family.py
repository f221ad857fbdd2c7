"""A study's aligned models, each with the models, biases and directions around it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.baselines.directions import mean_activation
from tsdi.bias import Estimation as BiasEstimation
from tsdi.bias import LabelledIds, SafetyBias, estimate_bias, fit_slope
from tsdi.bias.refusal_log_odds import ENGLISH, Phrases, phrase_ids
from tsdi.condition import Labelled
from tsdi.decoding.prompt_states import PromptStates
from tsdi.errors import FormatError, UsageError
from tsdi.models.chat import ChatFormat, encode_chat, template_sha256
from tsdi.models.fingerprint import fingerprint
from tsdi.models.load import LoadOptions, load_model, load_tokenizer
from tsdi.runs.add_condition import to_labelled
from tsdi.study.conditions import Conditions
from tsdi.study.places import find_pool, pool_fingerprint
from tsdi.study.settings import Estimation, Setting
from tsdi.suites.prompts import Prompt

_ESTIMATION = ("prompts", "prompt_tokens", "steps", "pool", "reference", "template", "ngram")


@dataclass(frozen=True)
class Member:
    """One aligned model of the grid, and the paths of the models around it.

    Models of several seeds with one place in the grid share a name. Paths are folders or hub ids by
    role: aligned, reference, sft, proxy, proxy reference ...
    """

    name: str
    seed: int
    paths: Mapping[str, str]
    beta: float | None = None
    iterations: int | None = None
    annotators: float | None = None

    @property
    def id(self) -> str:
        """The model's id among all seeds, such as "seed1/beta0.1-step30"."""
        return f"seed{self.seed}/{self.name}"


class ModelFamily:
    """A member's models, biases, conditions and directions, each made when first used.

    Directions are learned from the prompts of the split "validation", conditions from "fit".
    Estimated biases are kept in the folder `biases`; text files of token pools are in `home`.
    """

    def __init__(
        self,
        member: Member,
        estimation: Estimation,
        options: LoadOptions,
        chat_format: ChatFormat,
        prompts: Mapping[str, Sequence[Prompt]],
        biases: Path,
        home: Path,
    ) -> None:
        self.member = member
        self.chat_format = chat_format
        self.estimation = estimation
        self._options = options
        self._prompts = prompts
        self._biases = biases
        self._home = home
        self._models: dict[str, PreTrainedModel] = {}
        self._states: dict[str, PromptStates] = {}

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The aligned model's tokenizer, which all models share."""
        return load_tokenizer(self.member.paths["aligned"], self._options)

    def model(self, role: str) -> PreTrainedModel:
        """The model of a role, loaded once."""
        if role not in self._models:
            self._models[role] = load_model(self.member.paths[role], self._options)
        return self._models[role]

    def states(self, role: str) -> PromptStates:
        """What the model of a role has read of the study's prompts."""
        if role not in self._states:
            self._states[role] = PromptStates(self.model(role))
        return self._states[role]

    @cached_property
    def openers(self) -> tuple[list[int], list[int]]:
        """First tokens of refusing and of complying answers."""
        return (
            sorted({ids[0] for ids in phrase_ids(self.tokenizer, self.phrases.refusing)}),
            sorted({ids[0] for ids in phrase_ids(self.tokenizer, self.phrases.complying)}),
        )

    @cached_property
    def phrases(self) -> Phrases:
        """Beginnings of refusing and of complying answers."""
        given = self.estimation
        return Phrases(given.refusing or ENGLISH.refusing, given.complying or ENGLISH.complying)

    @cached_property
    def conditions(self) -> Conditions:
        """The conditions of this member's models, fitted to the study's labelled prompts."""
        asked, seed = self._labelled, self.member.seed
        return Conditions(self.tokenizer, asked, self.phrases, self.openers, self.chat_format, seed)

    def bias(self, setting: Setting) -> SafetyBias:
        """The safety bias at a setting, estimated once for each way of estimation."""
        usual = self.estimation
        how: Setting = {
            "prompts": usual.prompts,
            "prompt_tokens": usual.prompt_tokens,
            "steps": usual.steps,
            "pool": usual.pool,
            "reference": "reference",
            "template": "with",
            "ngram": 1,
            "seed": usual.seed,
        }
        how |= {key: setting[key] for key in _ESTIMATION if setting.get(key) is not None}
        if setting.get("slope", "none") != "none":
            how["slope"] = setting["slope"]
        # Fewer steps are the beginning of more: prompt k is drawn in the same order.
        steps = int(how["steps"] or 0)
        how |= {"steps": max(steps, usual.steps)}
        bias = self._kept(how)
        return bias.truncate(min(steps, bias.steps))  # answers may be shorter

    def _kept(self, how: Setting) -> SafetyBias:
        """The bias stored on disk, or a new estimate, which is stored."""
        decides = {
            **how,
            "models": [
                fingerprint(self.member.paths[r]) for r in ("aligned", str(how["reference"]))
            ],
            "pool": pool_fingerprint(str(how["pool"]), self._home),
            "prompt_format": self.chat_format.prompt_format,
            "template_args": dict(self.chat_format.template_args),
            "dtype": self._options.dtype,
        }
        if how.get("slope") == "labelled":
            decides["labelled"] = vars(self._labelled_ids)
        key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]
        folder = self._biases / self.member.id / key
        try:
            return SafetyBias.from_pretrained(folder, tokenizer=self.tokenizer)
        except FormatError:
            bias = self._estimate(how)
            folder.mkdir(parents=True, exist_ok=True)
            bias.save_pretrained(folder)
            return bias

    def _estimate(self, how: Setting) -> SafetyBias:
        bare = how["template"] == "without"
        pair = self.model("aligned"), self.model(str(how["reference"]))
        settings = BiasEstimation(
            prompts=int(how["prompts"] or 0),
            steps=int(how["steps"] or 0),
            prompt_tokens=int(how["prompt_tokens"] or 0),
            pool=self.pool(str(how["pool"])),
            seed=int(how["seed"] or 0),
            ngram=int(how["ngram"] or 0),
            chat=ChatFormat("{prompt}") if bare else self.chat_format,
        )
        bias = estimate_bias(*pair, self.tokenizer, settings)
        if how.get("slope") == "labelled":
            bias = fit_slope(bias, *pair, self.tokenizer, self._labelled_ids)
        elif "slope" in how:
            prompts = settings.random_prompts(self.tokenizer)
            bias = fit_slope(bias, *pair, self.tokenizer, prompts)
        if not bare:
            return bias
        # Estimated without the template's tokens, but used with them.
        used = {
            "prompt_format": self.chat_format.prompt_format,
            "template_args": dict(self.chat_format.template_args),
            "template_sha256": template_sha256(self.tokenizer, self.chat_format),
        }
        return SafetyBias(bias.values, bias.standard_error, bias.info.model_copy(update=used))

    @cached_property
    def _labelled_ids(self) -> LabelledIds:
        harmless, harmful = (
            [list(one.ids) for one in self._labelled if one.harmful is kind]
            for kind in (False, True)
        )
        return LabelledIds(harmless, harmful)

    @cached_property
    def _labelled(self) -> list[Labelled]:
        return [
            to_labelled(prompt, encode_chat(self.tokenizer, prompt.messages, self.chat_format))
            for prompt in self._prompts["fit"]
        ]

    def pool(self, name: str) -> str:
        """A token pool's name as `TokenPool.from_name` takes it."""
        return find_pool(name, self._home)

    def prompt_ids(self, kind: str) -> list[list[int]]:
        """Validation prompts of a kind as token ids.

        Raises:
            UsageError: If there are none.
        """
        prompts = [prompt for prompt in self._prompts["validation"] if prompt.kind == kind]
        if not prompts:
            raise UsageError(
                f"No validation prompt is {kind}, and a rule learns from such.",
                "Add some to prompts.validation, or leave the rule out.",
            )
        return [encode_chat(self.tokenizer, p.messages, self.chat_format) for p in prompts]

    @property
    def kinds(self) -> list[str]:
        """The kinds of the validation prompts."""
        return sorted({prompt.kind for prompt in self._prompts["validation"]})

    def mean_activation(self, kind: str, layer: int) -> Tensor:
        """Mean residual stream of the aligned model on validation prompts of a kind, float64."""
        return mean_activation(self.model("aligned"), self.prompt_ids(kind), layer)
