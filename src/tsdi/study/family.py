"""A study's aligned models, each with the models, biases and directions around it."""

import gc
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.baselines.directions import mean_activations
from tsdi.bias import Estimation as BiasEstimation
from tsdi.bias import LabelledIds, SafetyBias, estimate_bias, fit_slope
from tsdi.bias.refusal_log_odds import ENGLISH, Phrases, phrase_ids
from tsdi.condition import Labelled
from tsdi.decoding.prompt_states import PromptStates
from tsdi.engines.base import Engine
from tsdi.engines.open import open_engine
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import FormatError, PromptError, UsageError
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat, encode_chat, template_sha256
from tsdi.models.compatibility import tokenizer_size
from tsdi.models.fingerprint import fingerprint
from tsdi.models.load import load_model, load_tokenizer
from tsdi.models.sides import as_side
from tsdi.runs.add_condition import to_labelled
from tsdi.runs.loading import Loading
from tsdi.runs.one_model import ids_by_kind
from tsdi.stand_ins.calibration import calibrate
from tsdi.stand_ins.info import stand_in_info
from tsdi.stand_ins.subject import Subject
from tsdi.stand_ins.table import STAND_INS
from tsdi.study.conditions import Conditions
from tsdi.study.places import find_pool, pool_fingerprint
from tsdi.study.settings import Estimation, Setting
from tsdi.suites.prompts import Prompt, prompts_sha256

_ESTIMATION = ("prompts", "prompt_tokens", "steps", "pool", "reference", "template", "ngram")
_HALVES = ("fit", "validation")  # of the prompts that a stand-in is made from
_LOG = logging.getLogger(__name__)


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
    Estimated biases are kept in the folder `biases`; text files of token pools are in `pools`. What
    models have read is kept in memory, unless `keeps_states` is false. Where vLLM answers,
    transformers still makes biases and conditions; one of the two is in memory at a time.
    """

    def __init__(
        self,
        member: Member,
        estimation: Estimation,
        loading: Loading,
        chat_format: ChatFormat,
        prompts: Mapping[str, Sequence[Prompt]],
        biases: Path,
        pools: Sequence[Path],
        keeps_states: bool = True,
    ) -> None:
        self.member = member
        self.keeps_states = keeps_states
        self.chat_format = chat_format
        self.estimation = estimation
        self._options, self._choice = loading.options, loading.engine
        self._prompts = prompts
        self._biases = biases
        self._pools = pools
        self._models: dict[str, PreTrainedModel] = {}
        self._states: dict[str, PromptStates] = {}
        self._activations: dict[str, Tensor] = {}
        self._served: Engine | None = None
        self._asked: tuple[str, str | None, float | None] | None = None

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The aligned model's tokenizer, which all models share."""
        return load_tokenizer(self.member.paths["aligned"], self._options)

    def model(self, role: str) -> PreTrainedModel:
        """The model of a role, loaded once."""
        self.close()
        if role not in self._models:
            self._models[role] = load_model(self.member.paths[role], self._options)
        return self._models[role]

    def engine(self, role: str, bias: SafetyBias | None = None) -> Engine:
        """An engine of the model of a role; a bias is subtracted once, or as its condition says.

        vLLM has one model at a time: the next call for another, or of `model`, closes this engine.
        """
        strength = 1.0 if bias is not None and bias.condition is None else None
        if self._choice.name == "transformers":
            own = self.model(role), self.tokenizer, bias, strength, self.chat_format
            return TransformersEngine(*own, self.states(role))
        plain = bias is None or bias.condition is None
        asked = (role, None if bias is None else bias.sha256, strength) if plain else None
        if self._served is not None and asked is not None and self._asked == asked:
            return self._served
        self.close()
        self._models.clear()
        self._states.clear()
        gc.collect()
        torch.cuda.empty_cache()
        with TemporaryDirectory(prefix="tsdi-bias-") as folder:
            if bias is not None:
                bias.save_pretrained(folder)
            self._served, _ = open_engine(
                self.member.paths[role],
                None if bias is None else folder,
                strength,
                self.chat_format if bias is None else OWN_TEMPLATE,
                self._options,
                self._choice,
            )
        self._asked = asked
        return self._served

    def close(self) -> None:
        """Give back the memory of the model that vLLM has, if any."""
        if self._served is not None:
            self._served.close()
            self._served = None

    def states(self, role: str) -> PromptStates | None:
        """What the model of a role has read of the study's prompts; None if nothing is kept."""
        if not self.keeps_states:
            return None
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
        alone = how["reference"] in STAND_INS
        roles = ("aligned",) if alone else ("aligned", str(how["reference"]))
        decides: dict[str, Any] = {
            **how,
            "models": [fingerprint(self.member.paths[role]) for role in roles],
            "pool": pool_fingerprint(str(how["pool"]), self._pools),
            "prompt_format": self.chat_format.prompt_format,
            "template_args": dict(self.chat_format.template_args),
            "dtype": self._options.dtype,
        }
        if how.get("slope") == "labelled":
            decides["labelled"] = [vars(one) for one in self._labelled]
        if alone:
            decides["labelled"] = [prompts_sha256(self._prompts[split]) for split in _HALVES]
            decides["phrases"] = [self.phrases.refusing, self.phrases.complying]
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
        bare, reference = how["template"] == "without", str(how["reference"])
        settings = BiasEstimation(
            prompts=int(how["prompts"] or 0),
            steps=int(how["steps"] or 0),
            prompt_tokens=int(how["prompt_tokens"] or 0),
            pool=self.pool(str(how["pool"])),
            seed=int(how["seed"] or 0),
            ngram=int(how["ngram"] or 0),
            chat=ChatFormat("{prompt}") if bare else self.chat_format,
        )
        if reference in STAND_INS:
            return self._stand_in(reference, settings)
        pair = self.model("aligned"), self.model(reference)
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

    def _stand_in(self, name: str, settings: BiasEstimation) -> SafetyBias:
        """The bias with something in place of the reference, scaled; 0 where that shows nothing."""
        fit, validation = (
            ids_by_kind(self._prompts[split], self.tokenizer, self.chat_format) for split in _HALVES
        )
        side = as_side(self.model("aligned"))
        subject = Subject(side, self.tokenizer, fit, validation, settings, self.phrases)
        try:
            return calibrate(subject, [STAND_INS[name].estimate(subject)])[0].bias
        except PromptError as error:
            _LOG.warning("%s does nothing to %s: %s", name, self.member.id, error.problem)
            nothing = torch.zeros(1, tokenizer_size(self.tokenizer))
            info = stand_in_info(subject, name, "itself", settings.prompts, settings.groups)
            return SafetyBias(nothing, nothing.clone(), info)

    @cached_property
    def _labelled_ids(self) -> LabelledIds:
        harmless, harmful = (
            [list(one.ids) for one in self._labelled if one.harmful is kind]
            for kind in (False, True)
        )
        return LabelledIds(harmless, harmful, {tuple(o.ids): o.group for o in self._labelled})

    @cached_property
    def _labelled(self) -> list[Labelled]:
        return [
            to_labelled(prompt, encode_chat(self.tokenizer, prompt.messages, self.chat_format))
            for prompt in self._prompts["fit"]
        ]

    def pool(self, name: str) -> str:
        """A token pool's name as `TokenPool.from_name` takes it."""
        return find_pool(name, self._pools)

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
        if kind not in self._activations:
            rows = self.prompt_ids(kind)
            self._activations[kind] = mean_activations(self.model("aligned"), rows)
        return self._activations[kind][layer]
