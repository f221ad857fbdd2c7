"""The files of a saved bias, from a folder or the hub."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download

from tsdi.errors import FormatError, ModelError
from tsdi.models.names import Place, is_local, locate, split_revision

_REMEDY = "Give a folder made by 'tsdi estimate', or a hub id."


def read_files(name: str, files: Sequence[str], how: Mapping[str, Any]) -> list[bytes]:
    """Read the files of a bias.

    Args:
        name: Folder, or hub id with or without "@REVISION".
        files: Their names; the first one tells that there is a bias.
        how: Settings of ``hf_hub_download``, "revision" among them.

    Raises:
        FormatError: If the files cannot be had.
    """
    try:
        place = _locate(name, files[0], how)
        if place.is_folder:
            return [(Path(place.name) / file).read_bytes() for file in files]
        settings = {**how, "revision": place.revision}
        return [Path(hf_hub_download(place.name, f, **settings)).read_bytes() for f in files]
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FormatError(f"{name} holds no bias ({reason}).", _REMEDY) from error


def _locate(name: str, first: str, how: Mapping[str, Any]) -> Place:
    hub_id, named = split_revision(name)
    revision = how["revision"] or named
    if not is_local(name) and any(how[key] for key in how if key != "revision"):
        return Place(hub_id, revision, frozenset())  # huggingface_hub alone knows these settings
    try:
        place = locate(f"{hub_id}@{revision}" if revision else name, _REMEDY)
    except ModelError as error:
        raise FormatError(f"{name} holds no bias: {error.problem}", error.remedy) from None
    if first not in place.files:
        what = "it is a model" if "config.json" in place.files else f"it has no {first}"
        remedy = f"Its own is {name}/tsdi." if place.is_export else _REMEDY
        raise FormatError(f"{name} holds no bias: {what}.", remedy)
    return place
