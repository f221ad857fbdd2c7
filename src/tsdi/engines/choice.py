"""The choice of an engine by name, with arguments of its own, checked before weights are loaded."""

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from tsdi.engines.vllm_settings import prepare_environment, why_set
from tsdi.errors import UsageError
from tsdi.yaml_file import meant

ENGINES = ("transformers", "vllm", "llama-cpp", "openai")
Used = dict[str, str | float | None]
"""What decides an engine's answers, for the provenance."""
NO_LLAMA = ("llama-cpp-python is not installed.", "pip install 'tsdi[llama-cpp]'")
NO_VLLM = ("vLLM is not installed.", "pip install vllm")

_Hints = Mapping[str, Any]
_FROM_PRETRAINED: _Hints = {
    "attn_implementation": Literal["eager", "sdpa", "flash_attention_2", "flex_attention"],
    "max_memory": dict[int | str, int | str],
    "offload_folder": str,
}
"""Arguments of ``from_pretrained`` that say how weights are held and run, not which."""
_PICKLED = ("pt", "npcache")
_SET_BY_US = {
    "llama-cpp": {
        "model_path": "MODEL names it",
        "verbose": "standard output is for answers",
        "vocab_only": "answers need the weights",
        "embedding": "answers are texts",
        "draft_model": "the bias is not subtracted from drafts",
    }
}


@dataclass(frozen=True)
class EngineChoice:
    """The engine that answers, and the options that only it has.

    Attributes:
        name: One of `ENGINES`.
        url: Base URL of a server, for "openai".
        tokenizer: Folder or hub id of the tokenizer, for "llama-cpp".
        args: Arguments of the engine's own by name: of vLLM's ``EngineArgs``, of llama-cpp-python's
            ``Llama``, or attn_implementation, max_memory and offload_folder of transformers.
    """

    name: str = "transformers"
    url: str | None = None
    tokenizer: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, engine: "str | EngineChoice") -> "EngineChoice":
        """A choice as it is, or that of an engine's name."""
        return engine if isinstance(engine, EngineChoice) else cls(engine)

    def check(self) -> None:
        """Raise UsageError for an unknown engine, or options and arguments that it has not."""
        if self.name not in ENGINES:
            raise UsageError(f"There is no engine {self.name!r}.", f"Take {', '.join(ENGINES)}.")
        for option, owner in (("url", "openai"), ("tokenizer", "llama-cpp")):
            if getattr(self, option) is not None and self.name != owner:
                raise UsageError(f"The engine argument {option} is for {owner}.", "Leave it out.")
        if self.args:
            _check_arguments(self.name, self.args)

    def describe(self) -> Used:
        """The provenance of engine and arguments; of transformers as it is by itself, nothing."""
        described: Used = {} if self.name == "transformers" else {"engine": self.name}
        if self.args:
            described["engine_args"] = json.dumps(dict(self.args), sort_keys=True)
        return described


def _check_arguments(engine: str, args: Mapping[str, Any]) -> None:
    hints = _OWN[engine]()
    if not hints:
        raise UsageError(f"The engine {engine} takes no arguments of its own.", "Leave them out.")
    for name, value in args.items():
        if name not in hints:
            raise UsageError(
                f"The engine {engine} has no argument {name!r}{meant(name, hints)}.",
                "Name one as the engine itself calls it.",
            )
        why = why_set(name) if engine == "vllm" else _SET_BY_US.get(engine, {}).get(name, "")
        if why:
            raise UsageError(f"The engine argument {name} is set by tsdi: {why}.", "Leave it out.")
        if name == "load_format" and value in _PICKLED:
            raise UsageError(
                f"load_format={value} would read pickles, which can run code.",
                "Where you trust the weights, save them again as safetensors.",
            )
        _check_value(engine, name, value, hints[name])


def _check_value(engine: str, name: str, value: Any, hint: Any) -> None:
    """Raise UsageError for a value of another type than the engine's own annotation has."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
    except (PydanticUserError, PydanticUndefinedAnnotation, TypeError):
        return  # of a class that pydantic does not know: the engine looks itself
    try:
        found = adapter.validate_python(value)
        said = "it is a text" if isinstance(value, str) and isinstance(found, int | float) else ""
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"]
    if said:
        raise UsageError(
            f"The engine {engine} cannot take {name}={value!r}: {said[0].lower()}{said[1:]}.",
            "Values are JSON, as in enforce_eager=true; else texts.",
        )


def _of_vllm() -> _Hints:
    prepare_environment()
    try:
        from vllm.engine.arg_utils import EngineArgs
    except ImportError:
        raise UsageError(*NO_VLLM) from None
    unknown: dict[str, Any] = {}  # types that vLLM imports for type checkers alone
    while True:
        try:
            hints = get_type_hints(EngineArgs, localns=unknown)
        except NameError as error:
            if error.name is None or error.name in unknown:
                raise
            unknown[error.name] = Any
        else:
            return {name: hints[name] for name in EngineArgs.__dataclass_fields__}


def _of_llama() -> _Hints:
    try:
        from llama_cpp import Llama
    except ImportError:
        raise UsageError(*NO_LLAMA) from None
    parameters = inspect.signature(Llama.__init__).parameters
    hints = get_type_hints(Llama.__init__)
    return {
        name: hints.get(name, Any)
        for name, parameter in parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    }


_OWN = {
    "transformers": lambda: _FROM_PRETRAINED,
    "vllm": _of_vllm,
    "llama-cpp": _of_llama,
    "openai": dict[str, Any],
}
"""The names and types of an engine's own arguments."""
