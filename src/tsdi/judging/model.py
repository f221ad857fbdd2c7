"""Judges that are language models: a format, answered by an engine."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.engines.choice import Used
from tsdi.engines.open import load_engine
from tsdi.errors import ModelError, PromptError
from tsdi.judging.base import Judge, JudgeOptions, Response
from tsdi.judging.format import Format
from tsdi.judging.untrusted import control_tokens
from tsdi.judging.verdict import Judgement, Verdict, unscored
from tsdi.models.chat import OWN_TEMPLATE, ChatFormat, decode, encode_chat, template_sha256
from tsdi.models.fingerprint import of_local
from tsdi.models.load import LoadOptions, load_tokenizer

_VERSION = 1  # of how judged texts are changed and replies read
_PROBE = ("What time is it?", "It is noon.")
_SPACES = ("", "\u2581", "\u0120")  # how vocabularies write a space in front of a word


class ModelJudge(Judge):
    """Asks a model about every answer, greedily, and reads its reply.

    UNSCORED, with the reason or the reply kept, are an answer that does not fit the context with
    the model's prompt, one that still spells control tokens of its tokenizer, a reply that was cut
    off, and a reply that is not in the format.

    The probability is that of the label that means unsafe against the other one, from the logits
    where the reply has its verdict. It is None where the format gives none, and where the verdict
    is not one of the two labels as a single token.

    Args:
        form: The format.
        tokenizer: The model's tokenizer.
        weights: The model's name.
        load: Loads an engine with the model for a chat format, with the provenance of both.

    Raises:
        ModelError: If the tokenizer is not one of a model that knows the format.
    """

    def __init__(
        self,
        form: Format,
        tokenizer: PreTrainedTokenizerBase,
        weights: str,
        load: Callable[[ChatFormat], tuple[Engine, Used]],
    ) -> None:
        self.name = form.name
        self.sees_safety = form.sees_safety
        self.sees_refusal = form.sees_refusal
        self._form = form
        self._tokenizer = tokenizer
        self._tokens = control_tokens(tokenizer)
        self._check_tokens(weights)
        self._pairs = _label_ids(form, tokenizer, weights)
        self._chat_format, self._skipped = _chat_format(form, tokenizer)
        self._parts = form.template is None and _takes_parts(form, tokenizer, weights)
        self._own_controls = self._controls(self._request(_response(*_PROBE)))
        self._engine, used = load(self._chat_format)
        self._sampling = Sampling(
            form.max_new_tokens,
            keep_logits=form.labels is not None,
            logits_of=tuple(sorted(self._pairs)),
        )
        self._settings = {
            "version": _VERSION,
            "model": weights,
            **of_local(weights),
            **used,
            "template_sha256": template_sha256(tokenizer, ChatFormat(form.template)),
            "max_new_tokens": form.max_new_tokens,
            **form.describe(),
        }

    def settings(self) -> dict[str, Any]:
        """Model, revision, dtype and the hash of the template."""
        return dict(self._settings)

    def judge_answers(self, answers: Sequence[Response]) -> list[Judgement]:
        """Ask the model about all answers that fit, in one batch."""
        found: dict[int, Judgement] = {}
        requests: dict[int, Request] = {}
        for place, answer in enumerate(answers):
            try:
                requests[place] = self._checked(answer)
            except PromptError as error:
                found[place] = unscored(error.problem)
        if requests:
            replies = self._engine.generate(list(requests.values()), self._sampling)
            for place, reply in zip(requests, replies, strict=True):
                found[place] = self._judgement(reply, answers[place])
        return [found[place] for place in range(len(answers))]

    def prompt_tokens(self) -> int:
        """The number of tokens that the model reads beside the judged prompt and answer."""
        return len(self._encode(self._request(_response("", ""))))

    def _checked(self, response: Response) -> Request:
        """The question to the model; raises PromptError if it cannot be asked."""
        request = self._request(response)
        self._engine.check(request, self._sampling)
        if self._controls(request) != self._own_controls:
            raise PromptError("Prompt or answer hold control tokens of the judge.")
        return request

    def _request(self, response: Response) -> Request:
        asked = self._form.prompt(response, self._tokens)
        if isinstance(asked, str):
            return Request.from_text(asked.removeprefix(self._skipped))
        return Request(_as_parts(asked) if self._parts else asked)

    def _encode(self, request: Request) -> list[int]:
        return encode_chat(self._tokenizer, request.messages, self._chat_format)

    def _controls(self, request: Request) -> list[int]:
        """The control tokens that the model would read, in their order."""
        unknown = self._tokenizer.unk_token_id
        ids = {index for index in self._tokens.values() if index != unknown}
        return [token for token in self._encode(request) if token in ids]

    def _judgement(self, reply: Completion, response: Response) -> Judgement:
        if reply.finish == "length" and self._form.max_new_tokens > 1:
            return unscored(f"Cut off after {len(reply.token_ids)} tokens: {reply.text}")
        judgement = self._form.parse(reply.text, response)
        if judgement.verdict is Verdict.UNSCORED or self._form.labels is None:
            return judgement
        return replace(judgement, probability=self._probability(reply))

    def _probability(self, reply: Completion) -> float | None:
        """Softmax over the two labels' logits where the reply has its verdict."""
        if reply.logits is None:
            return None
        for place, token in enumerate(reply.token_ids):
            before = self._tokenizer.decode(list(reply.token_ids[:place]), skip_special_tokens=True)
            if token in self._pairs and _is_before(self._form.label_after, str(before)):
                pair = reply.logits[place, self._pairs[token]]
                return float(pair.double().softmax(dim=0)[0])
        return None

    def _check_tokens(self, weights: str) -> None:
        missing = [token for token in self._form.needs if token not in self._tokens]
        if missing:
            raise ModelError(
                f"The tokenizer of {weights} has no token {missing[0]!r}, with which "
                f"{self.name} is asked.",
                f"Give a model like {self._form.weights}.",
            )


def open_model_judge(form: Format, options: JudgeOptions) -> ModelJudge:
    """Load a format's model, or another one of its kind, as a judge.

    Raises:
        ModelError: If it cannot be loaded, or does not know the format.
    """
    weights = options.model or form.weights
    load = LoadOptions(options.dtype, options.device_map, options.trust_remote_code)
    tokenizer = load_tokenizer(weights, load)

    def open_engine(chat: ChatFormat) -> tuple[Engine, Used]:
        rule = tokenizer, None, None, chat
        engine, used = load_engine(weights, None, load, options.engine, rule)
        return engine, used | options.engine.describe()

    return ModelJudge(form, tokenizer, weights, open_engine)


def _label_ids(
    form: Format, tokenizer: PreTrainedTokenizerBase, weights: str
) -> dict[int, list[int]]:
    """Token ids of both labels, unsafe first, keyed by the id of either; with and without space."""
    if form.labels is None:
        return {}
    vocabulary = tokenizer.get_vocab()
    cased = [form.labels, tuple(label.capitalize() for label in form.labels)]
    spelled = [[space + label for label in labels] for labels in cased for space in _SPACES]
    pairs = [
        [vocabulary[word] for word in pair] for pair in spelled if {*pair} <= vocabulary.keys()
    ]
    found = {index: pair for pair in pairs for index in pair}
    if not found:
        raise ModelError(
            f"{form.labels[0]!r} and {form.labels[1]!r} are not both single tokens of {weights}, "
            f"so {form.name} has no probability there.",
            f"Give a model like {form.weights}." if form.weights else "Give another model.",
        )
    return found


def _is_before(after: str, text: str) -> bool:
    """Whether the beginning of a reply ends where the verdict is expected."""
    text = text.strip().lower()
    return text.endswith(after) if after else not text


def _chat_format(form: Format, tokenizer: PreTrainedTokenizerBase) -> tuple[ChatFormat, str]:
    """The engine's chat format, and the part of the template that it already holds."""
    if form.template is None:
        return OWN_TEMPLATE, ""
    begin = tokenizer.bos_token or ""
    if begin and form.template.startswith(begin):
        return ChatFormat(begin + "{prompt}"), begin
    return ChatFormat("{prompt}"), ""


def _takes_parts(form: Format, tokenizer: PreTrainedTokenizerBase, weights: str) -> bool:
    """Whether a chat template takes contents as lists of parts rather than texts.

    Raises:
        ModelError: If it shows neither, or there is none.
    """
    chat = form.prompt(_response(*_PROBE))
    assert not isinstance(chat, str)  # it has no template of its own
    wanted = [*_PROBE, *(one["content"].partition("\n")[0].strip() for one in chat)]
    if tokenizer.chat_template is not None:
        for parts in (False, True):
            try:
                ids = encode_chat(tokenizer, _as_parts(chat) if parts else chat)
            except PromptError:
                continue
            if all(text in decode(tokenizer, ids) for text in wanted):
                return parts
    raise ModelError(
        f"The chat template of {weights} does not show prompt and answer to the model.",
        "Give a model whose tokenizer has the template that it was trained with.",
    )


def _as_parts(chat: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """A chat with its contents as lists of text parts."""
    return tuple(
        {**message, "content": [{"type": "text", "text": message["content"]}]} for message in chat
    )


def _response(prompt: str, answer: str) -> Response:
    return Response("", "harmful", "", ({"role": "user", "content": prompt},), answer, True)
