"""Resolution of names: a local folder or GGUF file, or one commit on the hub, and its files."""

import difflib
import os
import re
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

from huggingface_hub import HfApi, ModelInfo, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from tsdi.errors import ModelError, UsageError
from tsdi.models.gguf_file import check_gguf
from tsdi.models.shipped import resolve_model

REMEDY = "Give a folder made by save_pretrained, or a hub id such as acme/model."
_GGUF = ".gguf"
_TIMEOUT = 5  # seconds; huggingface_hub itself goes on for half a minute with every file
# The hub's own models without an organisation; any other name without a slash is a folder's.
_LEGACY = {
    *("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2", "openai-gpt"),
    *("roberta-large-mnli", "distilbert-base-uncased-finetuned-sst-2-english"),
}
_PICKLED = re.compile(r"(pytorch_model|adapter_model|model|consolidated)\S*\.(bin|pt|pth|ckpt)")
_EXPORT = "tsdi/bias_config.json"
# Where transformers finds nothing but the GGUF file that it is given: beside that it would take a
# tokenizer.json, a tokenizer.model or an adapter, which may be another model's.
_NOTHING_BESIDE = str(Path(__file__).parent)
# What a folder is by the files in it, and what to do if it is taken for a model.
_KINDS = {
    "bias_config.json": ("a safety bias", "Name the model, and the bias with --bias."),
    "responses.jsonl": ("a run with answers", "Name the model that answered; run.json says which."),
    "results.json": ("results of a run or a study", "Name a model."),
    "trials.jsonl": ("a search of tsdi tune", "Name a model."),
}


@dataclass(frozen=True)
class Place:
    """A located model, adapter or bias: folder or hub id, commit, and names of its files.

    A GGUF file is a place of its own, without anything that lies beside it.

    Attributes:
        name: Folder or hub id, as libraries take it.
        revision: The commit, for what comes from the hub.
        files: Names of the files; of a folder here without those in its subfolders, but for a bias
            that an export has in it.
        gguf: The GGUF file, if it is one.
    """

    name: str
    revision: str | None
    files: frozenset[str]
    gguf: Path | None = None

    @property
    def is_folder(self) -> bool:
        """Whether the name is a local folder, the user's or one in the cache."""
        return Path(self.name).is_dir()

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of ``from_pretrained`` beside the name."""
        if self.gguf is not None:
            return {"gguf_file": str(self.gguf)}
        return {} if self.is_folder else {"revision": self.revision}

    @property
    def vllm_arguments(self) -> dict[str, Any]:
        """Arguments of vLLM beside the name: the revision of model and tokenizer.

        Raises:
            ModelError: If it is a GGUF file.
        """
        self._check_folder()
        return {
            name: commit
            for kind, commit in self.arguments.items()
            for name in (kind, f"tokenizer_{kind}")
        }

    @property
    def is_export(self) -> bool:
        """Whether `tsdi export` wrote it: a model with a bias that only its own code applies."""
        return _EXPORT in self.files

    def fetch(self, file: str) -> Path:
        """The path of one file, downloaded if need be.

        Raises:
            OSError: If there is none, or it cannot be had.
        """
        if self.is_folder:
            return Path(self.name) / file
        return Path(hf_hub_download(self.name, file, revision=self.revision))

    def folder(self, *patterns: str) -> str:
        """A folder with its files, those of some patterns or all, downloaded if need be.

        Raises:
            OSError: If they cannot be had.
            ModelError: If it is a GGUF file.
        """
        self._check_folder()
        if self.is_folder:
            return self.name
        wanted = list(patterns) or None
        return snapshot_download(self.name, revision=self.revision, allow_patterns=wanted)

    def here(self) -> Path:
        """The local folder or cache folder of its files; nothing is downloaded.

        Raises:
            OSError: If there is none.
        """
        if self.is_folder:
            return Path(self.name)
        return Path(snapshot_download(self.name, revision=self.revision, local_files_only=True))

    def _check_folder(self) -> None:
        if self.gguf is not None:
            raise ModelError(
                f"{self.gguf} is a file, not a folder.",
                "This needs the checkpoint that it was converted from; --engine transformers and"
                " --engine llama-cpp take GGUF files.",
            )


def split_revision(name: str) -> tuple[str, str | None]:
    """Hub id and revision of "ORG/NAME@REVISION"; a folder may have any name."""
    if Path(name).exists():
        return name, None
    hub_id, _, revision = name.partition("@")
    return hub_id, revision or None


def locate(name: str, remedy: str = REMEDY) -> Place:
    """Find a folder or GGUF file, or the commit that "ORG/NAME[@REVISION]" is on the hub now.

    A name that can only be a folder's never goes to the hub. One request is made, once in a
    process; without a connection, what is in the cache is taken. The remedy is said if there is
    neither, unless a folder nearby has nearly this name.

    Raises:
        ModelError: If it is none of them, or another file.
    """
    path = Path(name)
    if not name:  # which would be the current folder
        raise ModelError("The name is empty.", remedy)
    if (shipped := resolve_model(name)) != name:
        name, path = shipped, Path(shipped)
    if path.is_dir():
        return Place(name, None, frozenset(_files(path)))
    if path.is_file() and path.suffix == _GGUF:
        return Place(_NOTHING_BESIDE, None, frozenset({path.name}), path.resolve())
    if path.is_file():
        with path.open("rb") as content:
            is_gguf = content.read(4) == b"GGUF"
        remedy = f"Let its name end in {_GGUF}." if is_gguf else f"Give its folder: {path.parent}."
        raise ModelError(f"{name} is a file, not a folder.", remedy)
    hub_id, revision = split_revision(name)
    if is_local(name):
        seen = f", seen from {Path.cwd()}" if name.startswith(".") else ""
        kind = "file" if name.endswith(_GGUF) else "folder"
        raise ModelError(f"There is no such {kind}: {name}{seen}.", _alike(name) or remedy)
    try:
        return _on_hub(hub_id, revision)
    except LookupError as error:
        raise ModelError(
            f"There is no such folder: {name}; and {error.args[0]}.", _alike(name) or remedy
        ) from None


def is_local(name: str) -> bool:
    """Whether a name can only be a folder's or file's, and must not be told to the hub."""
    hub_id, _ = split_revision(name)
    if name.endswith(_GGUF):
        return True
    try:
        validate_repo_id(hub_id)
    except HFValidationError:
        return True
    first, slash, _ = hub_id.partition("/")
    return Path(first).exists() if slash else hub_id not in _LEGACY


@cache
def _on_hub(hub_id: str, revision: str | None) -> Place:
    """A commit on the hub, or what the cache has of it; LookupError says why there is none."""
    try:
        info = _asked(hub_id, revision)
        files = frozenset(one.rfilename for one in info.siblings or ())
        return Place(hub_id, info.sha, files)
    except RevisionNotFoundError:
        raise LookupError(f"{hub_id} has no revision {revision} on the hub") from None
    except RepositoryNotFoundError:
        raise LookupError(
            "the hub has no such model, or not for you (hf auth login shows it private ones)"
        ) from None
    except Exception as error:  # the hub and the network fail in many ways
        reason = " ".join(str(error).split())[:120] or type(error).__name__
    try:
        folder = Path(snapshot_download(hub_id, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise LookupError(
            f"the hub cannot be reached and the cache has none ({reason.rstrip('.')})"
        ) from None
    found = (file.relative_to(folder).as_posix() for file in folder.rglob("*"))
    return Place(str(folder), folder.name, frozenset(found))


def _asked(hub_id: str, revision: str | None) -> ModelInfo:
    """What the hub says of a model; TimeoutError once even its address took long to find."""
    answer: Future[ModelInfo] = Future()

    def ask() -> None:
        try:
            answer.set_result(HfApi().model_info(hub_id, revision=revision, timeout=_TIMEOUT))
        except Exception as error:
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()  # name servers that are silent hold it for a minute
    return answer.result(2 * _TIMEOUT)


def _files(folder: Path) -> Iterator[str]:
    yield from (file.name for file in folder.iterdir() if file.is_file())
    if (folder / _EXPORT).is_file():
        yield _EXPORT


def _name_one(name: str, place: Place) -> str:
    """A remedy that names a GGUF file of a place that holds nothing else."""
    file = min(file for file in place.files if file.endswith(_GGUF))
    if place.is_folder:
        return f"Name one: {Path(name) / file}."
    return f"Fetch one, and name the file: hf download {place.name} {file}."


def check_is_model(name: str, place: Place) -> None:
    """Raise ModelError unless a place holds a model in safetensors or an adapter, by its files.

    A GGUF file is read once, but for its weights.
    """
    if place.gguf is not None:
        check_gguf(name, place.gguf)
        return
    files = place.files
    kind = next((kind for file, kind in _KINDS.items() if file in files), None)
    if "adapter_config.json" in files:
        _check_weights(name, place, "adapter_model")
    elif "config.json" in files:
        _check_weights(name, place, "")
    elif kind is not None:
        raise ModelError(f"{name} is {kind[0]}, not a model.", kind[1])
    elif any(file.endswith(_GGUF) for file in files):
        raise ModelError(f"{name} has GGUF files only.", _name_one(name, place))
    else:
        raise ModelError(f"{name} holds no model: it has no config.json.", _inside(place) or REMEDY)


def check_no_export(name: str) -> None:
    """Raise UsageError for an export of tsdi, whose bias only its own code applies."""
    if locate(name).is_export:
        remedy = f"Add --bias {name}/tsdi, or name" if Path(name).is_dir() else "Name"
        raise UsageError(
            f"{name} is an export of tsdi: without its bias it would be taken for the plain model.",
            f"{remedy} the model that it was made from with its bias.",
        )


def _check_weights(name: str, place: Place, stem: str) -> None:
    """Raise ModelError where there are no weights in safetensors; pickles can run code."""
    files = place.files
    if any(f.startswith(stem) and f.endswith(".safetensors") for f in files):
        return
    pickled = sorted(file for file in files if _PICKLED.fullmatch(file))
    if pickled:
        raise ModelError(
            f"{name} has its weights as a pickle only ({pickled[0]}): it could run code, and is"
            " never read.",
            "Where you trust it, save it again as safetensors.",
        )
    if any(file.endswith(_GGUF) for file in files):
        raise ModelError(f"{name} has GGUF files only.", _name_one(name, place))
    raise ModelError(f"{name} has no weights: no file in safetensors.", REMEDY)


def _inside(place: Place) -> str:
    """A remedy that names the models in subfolders; "" unless it is a folder of models."""
    if not place.is_folder:
        return ""
    found = sorted(str(config.parent) for config in Path(place.name).glob("*/config.json"))
    return f"It holds models: name one, such as {', '.join(found[:3])}." if found else ""


def _alike(name: str) -> str:
    """A remedy that names a folder nearby that may be meant; "" if there is none."""
    with suppress(OSError):
        found = _elsewhere(Path(name)) or _mistyped(Path(name))
        if found:
            return f"Did you mean {', '.join(found)}?"
    return ""


def _elsewhere(path: Path) -> list[str]:
    """Existing folders with this relative path below parents or children of this folder."""
    if path.is_absolute():
        return []
    here = Path.cwd()
    children = sorted(child for child in here.iterdir() if child.is_dir())
    bases = [*list(here.parents)[:3], *children]
    found = (os.path.relpath(base / path) for base in bases if (base / path).is_dir())
    return list(dict.fromkeys(found))[:3]


def _mistyped(path: Path) -> list[str]:
    """Existing folders whose names differ a little from the first part that is missing."""
    there = next((parent for parent in path.parents if parent.is_dir()), Path())
    wrong, *rest = path.relative_to(there).parts
    names = [child.name for child in there.iterdir() if child.is_dir()]
    close = [there / name for name in difflib.get_close_matches(wrong, names, 3)]
    whole = [folder.joinpath(*rest) for folder in close if folder.joinpath(*rest).is_dir()]
    return [str(folder) for folder in whole or close]
