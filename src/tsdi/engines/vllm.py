"""The vLLM engine: an offline ``LLM`` with `tsdi.engines.vllm_plugin.SafetyDebias` in it."""

import gc
import hashlib
from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from tsdi.bias import SafetyBias
from tsdi.bias.knobs import Knobs
from tsdi.decoding.condition import Condition
from tsdi.decoding.end_tokens import end_ids
from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.engines.choice import NO_VLLM
from tsdi.engines.encode import decode_answer, encode_request, is_in_thought
from tsdi.engines.vllm_arguments import Asked
from tsdi.engines.vllm_settings import offline_settings, prepare_environment
from tsdi.errors import ModelError, UsageError
from tsdi.files import parse_json
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat, check_format
from tsdi.models.load import LoadOptions
from tsdi.models.names import check_is_model, locate


def open_llm(
    model: str,
    options: LoadOptions,
    bias: str | None = None,
    strength: float | None = None,
    **settings: Any,
) -> "Any":
    """Load a model into vLLM, with the debiasing processor if a bias is named.

    vLLM places weights itself; settings are those of its ``LLM``, such as max_model_len. A strength
    of None leaves it to the bias's condition, or takes what the bias recommends.

    Raises:
        UsageError: If vLLM is not installed, or a device map is asked for.
        ModelError: If vLLM cannot load the model, or the bias is not for it; its log says why.
    """
    if options.device_map is not None:
        raise UsageError("vLLM places models itself.", "Leave out --device-map.")
    prepare_environment()
    try:
        from vllm import LLM
    except ImportError:
        raise UsageError(*NO_VLLM) from None
    place = locate(model)
    check_is_model(model, place)
    try:
        return LLM(
            place.name,
            dtype=dtype_of(model, options),
            trust_remote_code=options.trust_remote_code,
            **place.vllm_arguments,
            **offline_settings(bias, strength),
            **settings,
        )
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"vLLM cannot serve {model}: {reason[-1]}", "Its log says more."
        ) from error


def close_llm(llm: Any) -> None:
    """End vLLM's own processes, and give their memory back."""
    llm.llm_engine.engine_core.shutdown()
    gc.collect()


def dtype_of(model: str, options: LoadOptions) -> str:
    """The dtype that vLLM is asked for: its own "auto" would halve weights saved in float32."""
    asked, place = options.dtype_for(model), locate(model)
    if asked != "auto" or "config.json" not in place.files:
        return asked
    try:
        config = parse_json(place.fetch("config.json").read_bytes(), finite=False)
        parts = [config, config.get("text_config") or {}]
        saved = {part.get("dtype") or part.get("torch_dtype") for part in parts}
    except (AttributeError, ValueError):  # damaged, as loading will say
        return asked
    return "float32" if "float32" in saved else asked


class VllmEngine(Engine):
    """Answers with a model in vLLM.

    The bias is the one that the processor in the ``LLM`` subtracts (`open_llm`), and is checked
    here before anything is asked; strength and chat format are as for
    `tsdi.engines.transformers.TransformersEngine`.

    Raises:
        MismatchError: If the bias is not for this tokenizer.
        UsageError: If no strength is named and the bias recommends none.
    """

    def __init__(
        self,
        llm: Any,
        tokenizer: PreTrainedTokenizerBase,
        bias: SafetyBias | None = None,
        strength: float | None = None,
        chat_format: ChatFormat = OWN_TEMPLATE,
    ) -> None:
        config = llm.llm_engine.vllm_config.model_config
        if bias is not None:
            bias.check(tokenizer)
            bias.check_width(config.get_vocab_size())
        self._llm = llm
        self._tokenizer = tokenizer
        used = None if bias is None else bias.strength_or_condition(strength)
        self._biased = bias is not None
        # A condition is the processor's, which has it from the bias.
        self._asked = Asked(None if isinstance(used, Condition) else used)
        self._chat_format = bias.info.chat_format if bias is not None else chat_format
        check_format(tokenizer, self._chat_format)
        self._limit = int(config.max_model_len)
        self._width = int(config.get_vocab_size())
        self._ends = end_ids(tokenizer, _own_settings(config), config.hf_config)

    def close(self) -> None:
        """End vLLM's own processes; the engine, and those `at` other settings, answer no more."""
        close_llm(self._llm)

    def at(self, knobs: Knobs) -> Engine:
        """The engine with its bias at another setting, which its requests ask for."""
        if not self._biased:
            return super().at(knobs)
        made = copy(self)
        made._asked = Asked.of(knobs)
        return made

    def check(self, request: Request, sampling: Sampling) -> None:
        """Raise PromptError if the request and its answer cannot fit the model's context."""
        self._encode(request, sampling)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer all requests; vLLM batches them itself."""
        from vllm import TokensPrompt

        prompts = [self._encode(request, sampling) for request in requests]
        outputs = self._llm.generate(
            [TokensPrompt(prompt_token_ids=ids) for ids in prompts],
            [self._params(r, ids, sampling) for r, ids in zip(requests, prompts, strict=True)],
            use_tqdm=False,
        )
        return [
            self._completion(ids, output.outputs[0], sampling)
            for ids, output in zip(prompts, outputs, strict=True)
        ]

    def _encode(self, request: Request, sampling: Sampling) -> list[int]:
        return encode_request(self._tokenizer, request, sampling, self._chat_format, self._limit)

    def _params(self, request: Request, ids: list[int], sampling: Sampling) -> Any:
        from vllm import SamplingParams

        asked = self._asked
        if request.strength is not None:
            asked = asked.at_strength(request.strength)
        digest = hashlib.sha256(f"{sampling.seed} {ids}".encode()).digest()
        return SamplingParams(
            temperature=sampling.temperature,
            max_tokens=sampling.longest,
            seed=int.from_bytes(digest[:4]),  # one stream per prompt, so that neighbours differ
            stop_token_ids=self._ends,
            ignore_eos=True,  # the ends are those above, as in transformers
            **_kept(sampling, SamplingParams),
            extra_args=asked.arguments() if self._biased else {},
            skip_special_tokens=True,
        )

    def _completion(self, prompt: list[int], output: Any, sampling: Sampling) -> Completion:
        ids = tuple(output.token_ids)
        logits = None
        if sampling.keep_logits:
            logits = torch.full((len(ids), self._width), -torch.inf)
            for row, found in zip(logits, output.logprobs, strict=True):
                row[list(found)] = torch.tensor([one.logprob for one in found.values()])
        return Completion(
            text=decode_answer(self._tokenizer, ids),
            token_ids=ids,
            finish="stop" if ids and ids[-1] in self._ends else "length",
            logits=logits,
            in_thought=is_in_thought(self._tokenizer, prompt),
        )


def _kept(sampling: Sampling, params: Any) -> dict[str, Any]:
    """Arguments of requests that ask for logits; for all of a step vLLM makes an object each."""
    if not sampling.keep_logits:
        return {}
    if sampling.logits_of and hasattr(params, "logprob_token_ids"):
        return {"logprob_token_ids": list(sampling.logits_of)}
    return {"logprobs": -1}


def _own_settings(config: Any) -> GenerationConfig:
    """The checkpoint's generation config, which names the end tokens."""
    try:
        revision = {"revision": config.revision} if config.revision else {}
        return GenerationConfig.from_pretrained(config.model, **revision)
    except OSError:
        return GenerationConfig.from_model_config(config.hf_config)
