"""The engine of a server that runs already: any OpenAI-compatible one, debiased if it debiases.

A server that `tsdi serve` started takes a request's strength as "vllm_xargs": {"tsdi_strength": S}.
"""

from collections.abc import Sequence
from typing import Any

from tsdi.chat import OWN_TEMPLATE, ChatFormat
from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.engines.openai import ChatClient, Failure, Prompt
from tsdi.errors import ModelError, PromptError, UsageError


class ServerEngine(Engine):
    """Asks a server, as many requests at a time as the client allows.

    Of an answer it knows the text only, no tokens and no logits.

    Args:
        client: The model behind the server.
        strength: What requests ask for; None leaves it to the server.
        chat_format: A prompt format sends completions of that text instead of chats; arguments of
            the template go with every chat.
    """

    def __init__(
        self,
        client: ChatClient,
        strength: float | None = None,
        chat_format: ChatFormat = OWN_TEMPLATE,
    ) -> None:
        self._client = client
        self._strength = strength
        self._chat_format = chat_format

    def check(self, request: Request, sampling: Sampling) -> None:
        """Raise PromptError if there is nothing to send; the server knows its own context."""
        if not any(message["content"].strip() for message in request.messages):
            raise PromptError("The prompt has no text.", "Write something.")
        if sampling.keep_logits:
            raise UsageError("A server gives no logits.", "Use another engine.")

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer every request.

        Raises:
            ModelError: If one gets no answer however often it is tried.
        """
        for request in requests:
            self.check(request, sampling)
        outcomes = self._client.ask(
            [self._prompt(request) for request in requests],
            sampling.max_new_tokens,
            temperature=sampling.temperature,
            seed=sampling.seed,
            extra=[self._extra(request) for request in requests],
        )
        failed = next((one for one in outcomes if isinstance(one, Failure)), None)
        if failed is not None:
            raise ModelError(
                f"{self._client.url} did not answer a prompt: {failed.reason}.",
                "What came before is kept: run again with --resume.",
            )
        return [
            Completion(one.text, (), "stop" if one.finish == "stop" else "length")
            for one in outcomes
            if not isinstance(one, Failure)
        ]

    def _prompt(self, request: Request) -> Prompt:
        prompt_format = self._chat_format.prompt_format
        if prompt_format is None:
            return request.messages
        text = "\n\n".join(message["content"] for message in request.messages)
        return prompt_format.replace("{prompt}", text)

    def _extra(self, request: Request) -> dict[str, Any]:
        strength = self._strength if request.strength is None else request.strength
        extra: dict[str, Any] = {}
        if strength is not None:
            extra["vllm_xargs"] = {"tsdi_strength": strength}
        if self._chat_format.template_args:
            extra["chat_template_kwargs"] = dict(self._chat_format.template_args)
        return extra
