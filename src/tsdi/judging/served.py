"""Judges that are language models on a server: a format, asked over an API.

The server puts the chat into the model's own chat template, so that only formats without a template
of ours can be asked so. Which control tokens its tokenizer has is not known here: what begins like
one of a common chat template is changed (`tsdi.judging.api.CONTROL_TOKENS`).
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from math import exp
from typing import Any

from tsdi.engines.openai import Chat, ChatClient
from tsdi.engines.replies import Failure, Reply
from tsdi.judging.api import CONTROL_TOKENS, describe_client, no_words
from tsdi.judging.base import Judge, Response
from tsdi.judging.format import Format
from tsdi.judging.verdict import Judgement, Verdict, unscored

TOP_LOGPROBS = 20
LEAST_MASS = 0.5
"""Of both labels among the likeliest first tokens: with less, the reply does not begin with one."""


class ServedJudge(Judge):
    """Asks the model of a format over an API about every answer, several at once.

    The probability is that of the label that means unsafe against the other one, where the reply
    begins with its verdict and the server gives log-probabilities of first tokens.
    """

    def __init__(self, form: Format, client: ChatClient) -> None:
        self.name = form.name
        self.sees_safety = form.sees_safety
        self.sees_refusal = form.sees_refusal
        self._form = form
        self._client = client

    def settings(self) -> dict[str, Any]:
        """The model, its URL and the template's hash, for the provenance."""
        asked = json.dumps(self._form.chat)
        return {**describe_client(self._client, asked), **self._form.describe()}

    def judge_answers(self, answers: Sequence[Response]) -> list[Judgement]:
        """Ask the model about all answers, several at once."""
        tops = TOP_LOGPROBS if self._form.labels and not self._form.label_after else 0
        chats = [self._chat(answer) for answer in answers]
        outcomes = self._client.ask(chats, self._form.max_new_tokens, tops)
        return [self._read(*pair) for pair in zip(outcomes, answers, strict=True)]

    def _chat(self, answer: Response) -> Chat:
        asked = self._form.prompt(answer, CONTROL_TOKENS)
        assert not isinstance(asked, str)  # it has no template
        return asked

    def _read(self, outcome: Reply | Failure, answer: Response) -> Judgement:
        reason = no_words(outcome)
        if reason or isinstance(outcome, Failure):
            return unscored(reason)
        if outcome.finish == "length" and self._form.max_new_tokens > 1:
            return unscored(f"Cut off: {outcome.text}")
        judgement = self._form.parse(outcome.text, answer)
        if judgement.verdict is Verdict.UNSCORED or self._form.labels is None:
            return judgement
        return replace(judgement, probability=_probability(self._form.labels, outcome.first_token))


def _probability(labels: tuple[str, str], tokens: Sequence[tuple[str, float]]) -> float | None:
    """The probability of the first label, unsafe, against the second; None without either."""
    unsafe, safe = (
        sum(exp(logprob) for token, logprob in tokens if token.strip().lower() == label.lower())
        for label in labels
    )
    total = unsafe + safe
    return unsafe / total if total >= LEAST_MASS else None
