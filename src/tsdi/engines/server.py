"""The engine of a running OpenAI-compatible server, debiased if the server debiases.

A server that `tsdi serve` started takes a request's strength as "vllm_xargs": {"tsdi_strength": S}.
"""

from collections.abc import Sequence
from typing import Any, Literal

from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.engines.openai import ChatClient, Prompt
from tsdi.engines.replies import NO_TEXT, Failure, Reply
from tsdi.errors import ModelError, PromptError, UsageError
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat


class ServerEngine(Engine):
    """Asks a server, as many requests at a time as the client allows.

    Of an answer it knows the text only, no tokens and no logits. A prompt format sends completions
    of that text instead of chats; arguments of the template go with every chat. A strength of None
    leaves it to the server.
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
        """Answer all requests, a few at once.

        A prompt that the server turns down has a completion without text that says so, unless the
        server has answered nothing yet: then it may turn down whatever it is asked.

        Raises:
            ModelError: If one gets no answer however often it is tried.
        """
        for request in requests:
            self.check(request, sampling)
        outcomes = self._client.ask(
            [self._prompt(request) for request in requests],
            sampling.longest,
            temperature=sampling.temperature,
            seed=sampling.seed,
            extra=[self._extra(request) for request in requests],
        )
        return [
            self._turned_down(one) if isinstance(one, Failure) else _completion(one)
            for one in outcomes
        ]

    def _turned_down(self, failure: Failure) -> Completion:
        if failure.finish == "filter" or (failure.finish == "error" and self._client.replied):
            return Completion("", (), failure.finish, reason=failure.reason)
        raise ModelError(
            f"{self._client.url} did not answer a prompt: {failure.reason}.",
            "What came before is kept: run again with --resume.",
        )

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


def _completion(reply: Reply) -> Completion:
    """A reply as a completion; a refusal apart from the text is its text."""
    ends: dict[str, Literal["stop", "length", "filter"]] = {
        "length": "length",
        "max_tokens": "length",
        "content_filter": "filter",
    }
    if reply.finish == NO_TEXT:
        return Completion("", (), "error", reason="its reply holds no text")
    finish = ends.get(reply.finish, "stop")
    text = reply.text or reply.refusal
    if reply.thought and not text:
        return Completion(reply.thought, (), finish, in_thought=True)
    return Completion(text, (), finish)
