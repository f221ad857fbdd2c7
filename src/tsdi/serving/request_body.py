"""Request bodies: the fields of OpenAI's API that are supported, checked before any work.

A field that would change the answer and is not kept is refused with its name, unless it has the
value that changes nothing. Fields that change no answer are left aside.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tsdi.decoding.rule import LARGEST_STRENGTH
from tsdi.engines.base import COLDEST
from tsdi.serving.access import RefusedError

LONGEST_ANSWER = 16_384  # tokens
_CHANGES_NOTHING = {
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "parallel_tool_calls",
}  # fmt: skip
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "top_k": (0, -1),
    "min_p": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "echo": (False,),
    "suffix": ("",),
}

Strength = Annotated[float, Field(ge=0, le=LARGEST_STRENGTH)]
Tokens = Annotated[int, Field(ge=1, le=LONGEST_ANSWER)]
B = TypeVar("B", bound="Body")


class _Fields(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None}


class Message(_Fields):
    """A message of a chat; its content is a text, or OpenAI's list of text parts."""

    role: Literal["system", "user", "assistant"]
    content: str

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kept = {name: value for name, value in data.items() if name != "name"}
        if isinstance(kept.get("content"), list):
            kept["content"] = "\n".join(map(_text_of_part, kept["content"]))
        return kept


def _text_of_part(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise ValueError("this model reads texts only")
    return text


class StreamOptions(_Fields):
    """Options of streaming an answer."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Extra(_Fields):
    """Fields of `vllm_xargs` that tsdi reads."""

    tsdi_strength: Strength | None = None


class Body(_Fields):
    """The fields that requests for chats and for texts share."""

    model: str
    max_tokens: Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=4)
    ] = []
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    vllm_xargs: Extra = Extra()
    tsdi_strength: Strength | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_what_changes_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if not _is_neutral(name, value)}

    @field_validator("stop", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("temperature")
    @classmethod
    def _not_too_cold(cls, value: float) -> float:
        if 0 < value < COLDEST:
            raise ValueError(f"it is 0 (greedy decoding) or at least {COLDEST:g}")
        return value

    @model_validator(mode="after")
    def _one_strength(self) -> "Body":
        if len({self.tsdi_strength, self.vllm_xargs.tsdi_strength, None}) > 2:
            raise ValueError("tsdi_strength is given twice, with two values")
        return self

    @property
    def strength(self) -> float | None:
        """The strength that the request names; None if it names none."""
        return self.vllm_xargs.tsdi_strength if self.tsdi_strength is None else self.tsdi_strength


class ChatBody(Body):
    """A request to answer a chat."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=2048)]
    max_completion_tokens: Tokens | None = None

    @model_validator(mode="after")
    def _one_length(self) -> "ChatBody":
        if len({self.max_tokens, self.max_completion_tokens, None}) > 2:
            raise ValueError("max_tokens and max_completion_tokens are two values")
        return self

    @property
    def most_tokens(self) -> int | None:
        """The largest number of tokens of the answer; None where no field says it."""
        return self.max_tokens or self.max_completion_tokens


class TextBody(Body):
    """A request to go on with a text."""

    prompt: Annotated[str, Field(min_length=1)]

    @property
    def most_tokens(self) -> int:
        """The largest number of tokens of the answer; 16 by default, as in OpenAI's API."""
        return self.max_tokens or 16


def _is_neutral(name: str, value: Any) -> bool:
    """Whether a field changes no answer with this value."""
    return name in _CHANGES_NOTHING or any(value == one for one in _NEUTRAL.get(name, ()))


def read_body(kind: type[B], data: bytes) -> B:
    """Parse and check the body of a request.

    Raises:
        RefusedError: If it holds none, or asks for what is not kept.
    """
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))[:200]  # a field's name may be as long as a body
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            said = "not supported here; it could change the answer, so it is not ignored"
        raise RefusedError(400, f"{name}: {said}." if name else f"{said}.", name or None) from error
