"""An engine without a model, for tests: it keeps the whole contract of `engines.base`."""

import hashlib
from collections.abc import Sequence

import torch

from tsdi.decoding.condition import Condition, Strength
from tsdi.decoding.rule import subtract_bias
from tsdi.decoding.slope import Bias
from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.errors import MismatchError, PromptError

END = 0  # the end-of-text token


class FakeEngine(Engine):
    """Answers with made-up words, deterministically.

    A token is a word of the chat, and answers are made of the words "w1", "w2"...; the logits of
    the next one are standard normal draws seeded by a hash of all tokens before it.

    Args:
        vocab: Number of tokens an answer can have; token 0 ends the text.
        context: Most tokens of prompt and answer together.
        bias: What is subtracted, [steps, vocab].
        strength: How much of it, unless a request says otherwise; or a condition.

    Raises:
        MismatchError: If the bias is of another vocabulary.
    """

    def __init__(
        self,
        vocab: int = 32,
        context: int = 64,
        bias: Bias | None = None,
        strength: Strength = 1.0,
    ) -> None:
        if bias is not None and bias.shape[1] != vocab:
            raise MismatchError(f"The bias is for {bias.shape[1]} tokens, the model has {vocab}.")
        self.vocab = vocab
        self.context = context
        self.bias = torch.zeros(0, vocab) if bias is None else bias
        self.strength = strength

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer every request; see the contract."""
        for request in requests:
            self.check(request, sampling)
        return [self._answer(request, sampling) for request in requests]

    def check(self, request: Request, sampling: Sampling) -> None:
        """Raise PromptError if the request and its answer cannot fit the context."""
        length = len(_tokens(request)) + sampling.longest
        if length > self.context:
            raise PromptError(
                f"Prompt and answer need {length} tokens, the context has {self.context}.",
                "Shorten the prompt or lower the number of new tokens.",
            )

    def _answer(self, request: Request, sampling: Sampling) -> Completion:
        strength = self.strength if request.strength is None else request.strength
        prefix = _tokens(request)
        ids: list[int] = []
        rows: list[torch.Tensor] = []
        while len(ids) < sampling.longest and END not in ids:
            logits = torch.randn(self.vocab, generator=_generator("logits", prefix))
            if isinstance(strength, Condition):  # at the first token
                strength = float(strength.strength(logits[None]))
            if len(ids) < len(self.bias):
                logits = subtract_bias(logits[None], len(ids), self.bias, strength)[0]
            rows.append(logits)
            ids.append(_choose(logits, prefix, sampling))
            prefix = [*prefix, f"w{ids[-1]}"]
        return Completion(
            text=" ".join(f"w{token}" for token in ids if token != END),
            token_ids=tuple(ids),
            finish="stop" if END in ids else "length",
            logits=torch.stack(rows) if sampling.keep_logits and rows else None,
        )


def _tokens(request: Request) -> list[str]:
    return [
        token
        for message in request.messages
        for token in (f"<{message['role']}>", *message["content"].split())
    ]


def _choose(logits: torch.Tensor, prefix: list[str], sampling: Sampling) -> int:
    """The next token of logits [vocab]; draws depend on the seed and the prefix only."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities = (logits / sampling.temperature).softmax(dim=0)
    generator = _generator(f"draw {sampling.seed}", prefix)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def _generator(purpose: str, prefix: list[str]) -> torch.Generator:
    text = "\n".join([purpose, *prefix])
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7]))
