"""Inspect: a model provider on top of the transformers engine, debiased if there is a bias."""

from collections.abc import Sequence
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.tool import ToolChoice, ToolInfo
from transformers.utils import logging

from tsdi.engines.base import Completion, Message, Request, Sampling
from tsdi.engines.open import open_engine
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import UsageError
from tsdi.harness.batching import Combiner
from tsdi.harness.inspect_chat import shown_in_one_line, to_message
from tsdi.models.chat import ChatFormat, encode_chat
from tsdi.models.load import LoadOptions, load_tokenizer

_MAX_TOKENS = 256  # as in `tsdi evaluate`
_TAKEN = (
    "bias, strength, prompt_format, template_args, dtype, device_map, trust_remote_code and"
    " batch_size"
)
_DEFAULTS = GenerateConfig()
# Settings that would change an answer, and that the engine does not support.
_UNKNOWN = (
    *("top_p", "top_k", "stop_seqs", "best_of", "num_choices", "logit_bias"),
    *("reasoning_effort", "reasoning_tokens", "extra_body"),
    *("frequency_penalty", "presence_penalty", "logprobs", "response_schema"),
)


class TsdiAPI(ModelAPI):
    """Chats answered as by `tsdi evaluate`: the same model, bias, template and decoding.

    Args:
        model_name: Folder or hub id of a model or adapter, or the name of a shipped model.
        base_url: Inspect's; means nothing here.
        api_key: Inspect's; means nothing here.
        config: Inspect's settings; max_tokens, temperature and seed are followed.
        bias: Folder or hub id of a safety bias.
        strength: Factor of the bias; None takes what the bias recommends.
        prompt_format: Used instead of the chat template: "... {prompt} ...".
        template_args: Arguments of the chat template, such as {"enable_thinking": false}; a bias
            brings its own.
        dtype: As for `tsdi.models.load.LoadOptions`.
        device_map: As in transformers, such as "auto" or "cuda:1".
        trust_remote_code: Run code that comes with the model.
        batch_size: Most chats answered together.
        unknown: Whatever else was asked for, which is refused.

    Raises:
        PrerequisiteError: If model or bias cannot be loaded or do not fit, or a setting cannot be
            followed; Inspect shows it in one line.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = _DEFAULTS,
        bias: str | None = None,
        strength: float | None = None,
        prompt_format: str | None = None,
        template_args: dict[str, Any] | None = None,
        dtype: str = "auto",
        device_map: str | None = None,
        trust_remote_code: bool = False,
        batch_size: int = 16,
        **unknown: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, config=config)
        options = LoadOptions(dtype, device_map, trust_remote_code)
        with shown_in_one_line():
            for name in unknown:
                raise UsageError(f"tsdi models take no {name!r}.", f"-M takes {_TAKEN}.")
            _check_config(config)
            self._batch_size = _checked_batch_size(batch_size)
            logging.disable_progress_bar()  # Inspect draws its own
            self._engine, self._used = open_engine(
                model_name, bias, strength, ChatFormat(prompt_format, template_args or {}), options
            )
            self._tokenizer = load_tokenizer(model_name, options)
        self._answer = Combiner(self._generate, self._batch_size)

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Answer one chat, together with others that wait."""
        with shown_in_one_line():
            _check_config(config)
            if tools:
                raise UsageError("tsdi models call no tools.", "Use a task without tools.")
            request = Request(tuple(map(to_message, input)))
            sampling = _sampling(config)
            self._engine.check(request, sampling)  # so that a long prompt fails alone
            return self._output(request, await self._answer((request, sampling)))

    def _generate(self, items: Sequence[tuple[Request, Sampling]]) -> list[Completion]:
        """Answer chats of the same decoding options as one batch."""
        found: dict[int, Completion] = {}
        for sampling in {sampling for _, sampling in items}:
            alike = [n for n, (_, own) in enumerate(items) if own == sampling]
            answers = self._engine.generate([items[n][0] for n in alike], sampling)
            found |= dict(zip(alike, answers, strict=True))
        return [found[n] for n in range(len(items))]

    def _output(self, request: Request, completion: Completion) -> ModelOutput:
        message = ChatMessageAssistant(
            content=completion.text, model=self.model_name, source="generate"
        )
        read, written = self._count(request.messages), len(completion.token_ids)
        return ModelOutput(
            model=self.model_name,
            choices=[
                ChatCompletionChoice(
                    message=message,
                    stop_reason="stop" if completion.finish == "stop" else "max_tokens",
                )
            ],
            usage=ModelUsage(input_tokens=read, output_tokens=written, total_tokens=read + written),
            metadata={
                "tsdi": self._used,
                **({"in_thought": True} if completion.in_thought else {}),
            },
        )

    def _count(self, messages: Sequence[Message]) -> int:
        assert isinstance(self._engine, TransformersEngine)
        return len(encode_chat(self._tokenizer, messages, self._engine.chat_format))

    async def count_text_tokens(self, text: str) -> int:
        """Number of tokens of a text; Inspect's own count would download a tokenizer."""
        return len(self._tokenizer(text)["input_ids"])

    def max_tokens(self) -> int:
        """Most tokens in an answer, unless the configuration names a number."""
        return _MAX_TOKENS

    def max_connections(self) -> int:
        """Twice the batch, so that a full one waits while another is answered."""
        return 2 * self._batch_size


def _checked_batch_size(size: Any) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise UsageError(f"The batch size {size!r} is no whole number above 0.", "Leave it out.")
    return size


def _sampling(config: GenerateConfig) -> Sampling:
    return Sampling(
        max_new_tokens=_MAX_TOKENS if config.max_tokens is None else config.max_tokens,
        temperature=config.temperature or 0.0,
        seed=config.seed or 0,
    )


def _check_config(config: GenerateConfig) -> None:
    """Raise UsageError if a setting would be passed over."""
    for name in _UNKNOWN:
        if getattr(config, name) is not None:
            raise UsageError(
                f"tsdi models do not know {name}.",
                "Use max_tokens, temperature (0 unless said) and seed.",
            )
