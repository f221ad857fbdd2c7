"""YAML files of settings: errors that name the line, the key, and what was probably meant."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tsdi.errors import FormatError, UsageError

_WANTED = {
    "tuple_type": "a list, such as [a, b],",
    "list_type": "a list, such as [a, b],",
    "dict_type": "a mapping, such as {name: value},",
    "model_type": "a mapping, such as {name: value},",
    "missing": "a value",
}
M = TypeVar("M", bound=BaseModel)


def read_settings(path: Path, model: type[M], keys: Collection[str], extra: str) -> M:
    """Read a YAML file of settings.

    Args:
        path: The file.
        model: What it must be.
        keys: All keys that such a file may hold, at any depth, for "did you mean".
        extra: The optional dependencies that bring PyYAML, such as "train".

    Raises:
        UsageError: If PyYAML is not installed.
        FormatError: If the file cannot be read or is no such thing; it names line and key.
    """
    try:
        import yaml
    except ImportError:
        raise UsageError(f"{path} is a YAML file.", f"Run: pip install 'tsdi[{extra}]'.") from None
    try:
        node = yaml.compose(path.read_text("utf-8"), yaml.SafeLoader)
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise FormatError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise FormatError(f"{path} is not UTF-8.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise FormatError(f"{path}{line}: not valid YAML ({problem}).") from None
    except RecursionError:
        raise FormatError(f"{path} contains itself.") from None
    try:
        _check_twice(path, node)
        return model.model_validate(content)
    except RecursionError:
        raise FormatError(f"{path} contains itself.") from None
    except ValidationError as error:
        raise FormatError(_first_problem(path, node, error, keys)) from None


def meant(name: str, known: Collection[str]) -> str:
    """Who comes closest to an unknown name, for an error message; "" if nobody does."""
    close = get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def field_names(*models: type[BaseModel]) -> list[str]:
    """The keys of some models as their files write them."""
    return sorted(
        {field.alias or name for model in models for name, field in model.model_fields.items()}
    )


def _check_twice(path: Path, node: Any) -> None:
    """Refuse a key that stands twice in one mapping, of which YAML keeps the last silently."""
    for mapping in _mappings(node):
        seen: set[str] = set()
        for key, _ in mapping.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise FormatError(f"{path}, line {line}: the key {key.value!r} stands twice.")
            seen.add(key.value)


def _mappings(node: Any) -> Iterator[Any]:
    children = []
    if getattr(node, "id", "") == "mapping":
        yield node
        children = [value for _, value in node.value]
    elif getattr(node, "id", "") == "sequence":
        children = node.value
    for child in children:
        yield from _mappings(child)


def _first_problem(path: Path, node: Any, error: ValidationError, known: Collection[str]) -> str:
    # An unknown key is what makes the right one missing, so it goes first.
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    keys, line = _place(node, problem["loc"])
    if problem["type"] == "missing":
        keys = [*keys, str(problem["loc"][-1])]
    message = problem["msg"].removeprefix("Value error, ")
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
    """The keys of a place that there are in the file, and the line of the last of them."""
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
