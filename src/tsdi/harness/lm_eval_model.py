"""lm-evaluation-harness: its transformers model, debiased in generation and in log-likelihoods."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from transformers import PreTrainedModel

from tsdi.bias import SafetyBias
from tsdi.decoding.condition import Condition, Strength
from tsdi.decoding.rule import subtract_bias
from tsdi.decoding.slope import Bias
from tsdi.errors import ModelError, UsageError
from tsdi.models.chat import special_ids
from tsdi.models.fit import check_adapter_fit
from tsdi.models.load import (
    LoadOptions,
    adapter_base,
    adapter_folder,
    attach_adapter,
    generator_class,
    load_checked,
    load_tokenizer,
)
from tsdi.models.names import check_is_model, locate
from tsdi.models.template import as_the_template_reads

NAME = "tsdi-hf"
Pair = tuple[tuple[str, str] | None, list[int], list[int]]
"""Texts of context and continuation, and their token ids, as lm_eval hands them on."""

_log = logging.getLogger(__name__)


@register_model(NAME)
class DebiasedLM(HFLM):  # type: ignore[misc]  # lm_eval has no types
    """`HFLM` with strength x bias[i] subtracted from the logits of response token i.

    The response begins where a task's context ends. In generation it is what the model writes; in
    log-likelihoods it is the continuation that is scored, such as the letter of a choice, and white
    space at the end of the context, which lm_eval scores with it, comes before its token 0. Rolling
    log-likelihoods have no prompt, hence no response, and stay as they are.

    Args:
        pretrained: Folder or hub id of a model, the name of a shipped one, or a loaded model.
        bias: Folder or hub id of a safety bias, or the bias.
        strength: Factor of the bias; None leaves it to the bias's condition, which reads
            the logits of response token 0, or takes what the bias recommends. With 0 every number
            is that of `HFLM`.
        options: As for `HFLM`. Arguments of the chat template are the bias's; others are refused.

    Raises:
        UsageError: If there is no bias, or the strength is no number, or none is named and none
            recommended.
        FormatError: If the bias cannot be read.
        MismatchError: If it is not for this model, tokenizer and chat template.
    """

    def __init__(
        self,
        pretrained: str | PreTrainedModel,
        bias: str | SafetyBias | None = None,
        strength: float | None = None,
        **options: Any,
    ) -> None:
        if bias is None:
            raise UsageError(
                f"{NAME} needs a safety bias.",
                "Add it: --model_args pretrained=MODEL,bias=FOLDER; without, use --model hf.",
            )
        self._bias = bias if isinstance(bias, SafetyBias) else SafetyBias.from_pretrained(bias)
        self._strength = self._bias.strength_or_condition(strength)
        self._answer_start: int | None = None  # in the continuations of the pass that is running
        self._templated = self._warned = False
        _check_template_args(self._bias, options)
        self._bare = options.get("add_bos_token") is False
        if isinstance(pretrained, str):
            place = locate(_with_revision(pretrained, options))
            check_is_model(pretrained, place)
            if place.gguf is not None:
                options.setdefault("tokenizer", load_tokenizer(pretrained))
            pretrained, options = place.name, {**options, **place.arguments}
        super().__init__(pretrained, **options)
        self.chat_template_args = dict(self._bias.info.template_args)
        if self.backend != "causal":
            raise ModelError(f"{pretrained} has an encoder.", "tsdi needs a causal language model.")
        self._bias.check(model=self.model)
        self._shift = self._bias.shift.to(self.device)

    def _create_model(self, *args: Any, peft: str | None = None, **options: Any) -> None:
        self.AUTO_MODEL_CLASS = _CheckedModel
        super()._create_model(*args, peft=peft, **options)
        if peft:
            check_adapter_fit(self._model, peft, adapter_folder(peft), "default")

    def _create_tokenizer(self, *args: Any, **options: Any) -> None:
        super()._create_tokenizer(*args, **options)
        self._bias.check(self.tokenizer)  # before weights are loaded
        if special_ids(self.tokenizer)[1] and not self._bare:
            raise UsageError(
                "The tokenizer puts an end-of-text token behind every text, so behind prompts too.",
                "Add add_bos_token=False to the model's arguments.",
            )

    def get_model_info(self) -> dict[str, Any]:
        """lm_eval's record of the model, and of the bias that is subtracted from its logits."""
        info: dict[str, Any] = super().get_model_info()
        return {**info, "bias_sha256": self._bias.sha256, **_record(self._strength)}

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The chat as text, in the bias's prompt format if it was estimated with one."""
        self._templated = True
        prompt_format = self._bias.info.prompt_format
        if prompt_format is None:
            chat = as_the_template_reads(self.tokenizer, chat_history)
            text: str = super().apply_chat_template(chat, add_generation_prompt)
            return text
        texts = [message["content"] for message in chat_history]
        begun = "" if add_generation_prompt else texts.pop()  # the answer's beginning
        return prompt_format.replace("{prompt}", "\n\n".join(texts)) + begun

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The wrapping of chats, for lm_eval's records."""
        if chat_template and self._bias.info.prompt_format is not None:
            return self._bias.info.prompt_format
        found: str | None = super().chat_template(chat_template)
        return found

    def _warn_if_raw(self) -> None:
        """Warn once where answers do not begin where the bias expects them."""
        wrapped = self.tokenizer.chat_template or self._bias.info.prompt_format
        if wrapped and self._strength and not self._templated and not self._warned:
            self._warned = True
            _log.warning(
                "The bias was estimated where answers begin in a chat, but the chat template is not"
                " applied: what is subtracted does not belong there. Add --apply_chat_template."
            )

    def _model_generate(
        self, context: Tensor, max_length: int, stop: list[str], **generation_kwargs: Any
    ) -> Tensor:
        self._warn_if_raw()
        if self._strength:
            generation_kwargs["logits_processor"] = [
                self._bias.logits_processor(context.shape[1], self._strength, self.tokenizer)
            ]
        ids: Tensor = super()._model_generate(context, max_length, stop, **generation_kwargs)
        return ids

    def _loglikelihood_tokens(
        self, requests: Sequence[Pair], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether it is the greedy one.

        Raises:
            UsageError: If the bias begins after a marker, such as the end of thinking.
        """
        if not self._strength or any(texts is None for texts, _, _ in requests):  # rolling windows
            plain: list[tuple[float, bool]] = super()._loglikelihood_tokens(
                requests, disable_tqdm, override_bs
            )
            return plain
        if self._bias.info.anchor:
            raise UsageError(
                f"The bias begins after {self._bias.info.anchor!r}, which no choice contains.",
                "Use tasks that generate, or a bias without an anchor.",
            )
        self._warn_if_raw()
        answers: dict[int, tuple[float, bool]] = {}
        for (start, _), numbers in self._passes(requests).items():
            self._answer_start = start
            try:
                found = super()._loglikelihood_tokens(
                    [requests[number] for number in numbers], disable_tqdm, override_bs
                )
            finally:
                self._answer_start = None
            answers |= dict(zip(numbers, found, strict=True))
        return [answers[number] for number in range(len(requests))]

    def _passes(self, requests: Sequence[Pair]) -> dict[tuple[int, int], list[int]]:
        """Indices of the requests to score together, by where a continuation begins.

        HFLM computes continuations that differ in their last token once, wherever each of them
        begins. The logits of a response token depend on where it begins, so what begins elsewhere
        in the same ids goes to another pass.
        """
        encoded: dict[str, list[int]] = {}  # the choices of a question share its context
        seen: dict[tuple[int, ...], list[int]] = defaultdict(list)
        passes: dict[tuple[int, int], list[int]] = defaultdict(list)
        for number, (texts, context, continuation) in enumerate(requests):
            assert texts is not None
            if texts[0] not in encoded:
                encoded[texts[0]] = self.tok_encode(texts[0])
            start = _moved_tokens(encoded[texts[0]], context, continuation)
            lengths = seen[(*context, *continuation[:-1])]
            if len(continuation) not in lengths:
                lengths.append(len(continuation))
            passes[start, lengths.index(len(continuation))].append(number)
        return passes

    def _select_cont_toks(
        self, logits: Tensor, contlen: int | None = None, inplen: int | None = None
    ) -> Tensor:
        """Log-probabilities at the places of a continuation, [contlen, width], debiased."""
        selected: Tensor = super()._select_cont_toks(logits, contlen, inplen)
        if self._answer_start is None:
            return selected
        self._shift = self._shift.to(selected.device)
        return debias_log_probs(selected, self._answer_start, self._shift, self._strength)


def _record(strength: Strength) -> dict[str, Any]:
    if isinstance(strength, Condition):
        return {"bias_strength": None, "bias_condition_sha256": strength.sha256}
    return {"bias_strength": strength}


def _check_template_args(bias: SafetyBias, options: dict[str, Any]) -> None:
    """Raise UsageError if lm_eval is asked for template arguments that are not the bias's."""
    asked = dict(options.get("chat_template_args") or {})
    if options.get("enable_thinking") is not None:
        asked["enable_thinking"] = options["enable_thinking"]
    own = bias.info.template_args
    if asked and asked != own:
        raise UsageError(
            f"The bias was estimated with template arguments {own}, lm_eval is asked for {asked}.",
            "Leave them out, or estimate a bias for them.",
        )


class _CheckedModel:
    """Wraps a class of transformers to refuse weights that do not fit."""

    @staticmethod
    def from_pretrained(name: str, **arguments: Any) -> PreTrainedModel:
        name = arguments.pop("gguf_file", None) or _with_revision(name, arguments)
        base = adapter_base(name)
        code = LoadOptions(trust_remote_code=bool(arguments.get("trust_remote_code")))
        kind = generator_class(base or name, code)
        model = load_checked(kind, base or name, **arguments)
        if base is None:
            return model
        return attach_adapter(model, name, "default")


def _with_revision(name: str, options: dict[str, Any]) -> str:
    """The name, with the option `revision` as ORG/NAME@REVISION."""
    revision = options.get("revision")
    known = revision in (None, "main") or "@" in name or Path(name).exists()
    return name if known else f"{name}@{revision}"


def debias_log_probs(log_probs: Tensor, start: int, bias: Bias, strength: Strength) -> Tensor:
    """Log-probabilities after the rule, from those before it.

    The logits f themselves are not needed, since log softmax(f - s b) is the same with log softmax
    of f in place of f, and so is what a condition reads.

    Args:
        log_probs: Log-probabilities along a text, [tokens, width].
        start: Index of response token 0 in the text.
        bias: The safety bias, [steps, vocab].
        strength: Factor of the bias, or a condition, which sets it at response token 0.

    Returns:
        [tokens, width], in float32 at least.
    """
    wide = log_probs.to(torch.promote_types(log_probs.dtype, bias.dtype))
    answer = wide[start : start + len(bias)]
    steps = torch.arange(len(answer), device=wide.device)
    used = strength.strength(answer[:1]) if isinstance(strength, Condition) else strength
    debiased = subtract_bias(answer, steps, bias, used).log_softmax(-1)
    return torch.cat([wide[:start], debiased, wide[start + len(bias) :]])


def _moved_tokens(encoded: list[int], context: list[int], continuation: list[int]) -> int:
    """The number of white-space tokens that lm_eval moved from context to continuation.

    Args:
        encoded: Token ids of the context as the task wrote it.
        context: Those before the continuation, without white space at the end.
        continuation: Those of the continuation; a token of it that holds both the white space and
            what follows counts as what follows.
    """
    ids = [*context, *continuation]
    return max(0, len(encoded) - len(context)) if ids[: len(encoded)] == encoded else 0
