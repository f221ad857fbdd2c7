"""YAML files of settings, with errors that name line, key and the likely meaning."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from tsdi.errors import FormatError, UsageError

_WANTED = {
    "tuple_type": "a list, such as [a, b],",
    "list_type": "a list, such as [a, b],",
    "dict_type": "a mapping, such as {name: value},",
    "model_type": "a mapping, such as {name: value},",
    "missing": "a value",
}
M = TypeVar("M", bound=BaseModel)
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as numpy takes them
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"  # of folders and tables
Name = Annotated[str, Field(pattern=f"^{NAME}$")]

_MOST_BYTES = 2**20
_MOST_VALUES = 10_000
_DEEPEST = 20
_LARGEST = 2**63 - 1  # what torch, numpy and file formats hold


class Strict(BaseModel):
    """Base of settings: unknown keys, infinite numbers and truth values for numbers are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_values(cls, values: Any) -> Any:
        """Refuse `yes` for a number, which pydantic takes for 1."""
        for name, field in cls.model_fields.items() if isinstance(values, dict) else ():
            key = field.alias or name
            kinds = _kinds(field.annotation)
            numbers = kinds & {int, float} and not kinds & {bool, Any}
            if numbers and _has_truth_value(values.get(key)):
                said = "a number is wanted here, neither yes nor no"
                raise PydanticCustomError("truth_value", said, {"key": key})
        return values


def _kinds(annotation: Any) -> set[Any]:
    """All types that a field may hold, within lists and mappings too."""
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        parts = parts[:1]
    return set().union(*map(_kinds, parts)) if parts else {annotation}


def _has_truth_value(value: Any) -> bool:
    if isinstance(value, dict | list | tuple):
        return any(map(_has_truth_value, value.values() if isinstance(value, dict) else value))
    return isinstance(value, bool)


def read_settings(path: Path, model: type[M], extra: str) -> M:
    """Read and check a YAML file of settings, of at most 10,000 values, aliases expanded.

    `extra` names the optional dependencies that bring PyYAML, such as "train".

    Raises:
        UsageError: If PyYAML is not installed.
        FormatError: If the file cannot be read or is no such thing; it names line and key.
    """
    try:
        import yaml
    except ImportError:
        raise UsageError(f"{path} is a YAML file.", f"Run: pip install 'tsdi[{extra}]'.") from None
    text = _read(path)
    node = None
    try:
        _check_tokens(path, yaml.scan(text, yaml.SafeLoader))
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _check_values(path, loader, node)
        content = None if node is None else loader.construct_document(node)
        return model.model_validate(content)
    except yaml.YAMLError as error:
        raise FormatError(_syntax_problem(path, text, error)) from None
    except ValidationError as error:
        raise FormatError(_first_problem(path, node, error, _all_keys(model))) from None


def meant(name: str, known: Collection[str]) -> str:
    """A hint with the closest known name, for an error message; "" if none is close."""
    close = get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def field_names(model: type[BaseModel]) -> set[str]:
    """The keys of a model as its files write them."""
    return {field.alias or name for name, field in model.model_fields.items()}


def _all_keys(model: type[BaseModel]) -> set[str]:
    """The keys of a model and of its parts, at any depth, for "did you mean"."""
    kinds = set().union(*(_kinds(field.annotation) for field in model.model_fields.values()))
    parts = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return field_names(model).union(*map(_all_keys, parts))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise FormatError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise FormatError(f"{path} is not UTF-8.") from None
    if len(data) > _MOST_BYTES:
        raise FormatError(f"{path} is no file of settings: it is larger than 1 MiB.")
    return text


def _check_tokens(path: Path, tokens: Iterable[Any]) -> None:
    """Refuse tags and excessive depth, before anything is built."""
    depth = 0
    for token in tokens:
        name = type(token).__name__
        if name == "TagToken":
            raise _refused(path, token, "tags (a word after !) are not taken")
        # FlowSequenceStartToken, BlockMappingStartToken...; a block ends with BlockEndToken
        depth += name.endswith("StartToken") and not name.startswith("Stream")
        depth -= name.endswith("EndToken") and not name.startswith(("Stream", "Document"))
        if depth > _DEEPEST:
            raise _refused(path, token, f"nested deeper than {_DEEPEST} levels")


def _check_values(path: Path, loader: Any, root: Any) -> None:
    """Refuse repeated keys, invalid numbers and dates, and aliases that expand too far.

    An alias (*name) repeats a value, so a short file can mean more values than there is memory for.
    """
    below: list[tuple[Any, tuple[str, ...]]] = [] if root is None else [(root, ())]
    count = 0
    while below:
        node, keys = below.pop()
        count += 1
        if len(keys) > _DEEPEST:
            raise _refused(path, node, "contains itself, or is nested too deeply by aliases")
        if count > _MOST_VALUES:
            raise _refused(path, node, f"more than {_MOST_VALUES:,} values, aliases counted")
        if node.id == "scalar":
            _check_scalar(path, loader, node, keys)
        elif node.id == "sequence":
            below += [(value, (*keys, str(n))) for n, value in enumerate(node.value)]
        else:
            _check_keys(path, loader, node)
            below += [(value, (*keys, key.value)) for key, value in node.value]


def _check_keys(path: Path, loader: Any, mapping: Any) -> None:
    """Refuse a repeated key in a mapping, of which YAML would keep the last silently."""
    seen: set[str] = set()
    for key, _ in mapping.value:
        if key.id != "scalar":
            raise _refused(path, key, "a key must be a single word")
        _check_scalar(path, loader, key, ())
        if key.value in seen:
            raise _refused(path, key, f"the key {key.value!r} stands twice")
        seen.add(key.value)


def _check_scalar(path: Path, loader: Any, node: Any, keys: Sequence[str]) -> None:
    """Refuse values that look like numbers or dates but are not valid ones."""
    if node.tag.endswith((":merge", ":value")):  # << and =, which stand for no value
        return
    try:
        value = loader.construct_object(node)
    except (ValueError, OverflowError) as error:  # the 31st of June; too many digits
        problem = f"{node.value[:20]!r} cannot be read ({str(error).partition(';')[0]})"
        raise _refused(path, node, problem, keys) from None
    if isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
        raise _refused(path, node, f"the number {node.value[:20]}... is too large", keys)


def _refused(path: Path, at: Any, problem: str, keys: Sequence[str] = ()) -> FormatError:
    key = f", {'.'.join(keys)}" if keys else ""
    return FormatError(f"{path}, line {at.start_mark.line + 1}{key}: {problem}.")


def _syntax_problem(path: Path, text: str, error: Any) -> str:
    mark = getattr(error, "problem_mark", None)
    position = getattr(error, "position", None)  # of a character that YAML does not allow
    line = mark.line if mark else None if position is None else text.count("\n", 0, position)
    place = "" if line is None else f", line {line + 1}"
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    return f"{path}{place}: not valid YAML ({problem})."


def _first_problem(path: Path, node: Any, error: ValidationError, known: Collection[str]) -> str:
    # An unknown key is what makes the right one missing, so it goes first.
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    inside = [problem["ctx"]["key"]] if problem["type"] == "truth_value" else []
    keys, line = _place(node, [*problem["loc"], *inside])
    if problem["type"] == "missing":
        keys = [*keys, str(problem["loc"][-1])]
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    if problem["type"] == "extra_forbidden":
        message = "there is no such key" + meant(keys[-1] if keys else "", known)
    elif problem["type"] in _WANTED:
        message = f"{_WANTED[problem['type']]} is wanted here"
    elif problem["type"].startswith("union_tag"):
        tags = problem.get("ctx", {}).get("expected_tags", "").replace("'", "")
        first, _, last = tags.rpartition(", ")
        message = f"`method` must be {first} or {last}"
    key = f", line {line}, {'.'.join(keys)}" if keys else ", line 1" if not node else ""
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{path}{key}: {message}.{more}"


def _place(node: Any, location: Sequence[str | int]) -> tuple[list[str], int]:
    """The keys of a location that the file has, and the line of the last of them."""
    keys: list[str] = []
    line = node.start_mark.line + 1 if node else 1
    for part in location:
        found: Mapping[str, tuple[Any, Any]] = {}
        if getattr(node, "id", "") == "mapping":
            found = {key.value: (key, value) for key, value in node.value}
        elif getattr(node, "id", "") == "sequence":
            found = {str(index): (value, value) for index, value in enumerate(node.value)}
        if str(part) in found:  # pydantic also names the kinds of a union on the way
            key, node = found[str(part)]
            line = key.start_mark.line + 1
            keys.append(str(part))
    return keys, line
