"""Rows of data sets on the hub, or of files at an address, at one commit."""

import logging
import re
from collections.abc import Callable
from typing import Any

from tsdi.errors import PromptError, UsageError
from tsdi.suites.prompts import Row
from tsdi.suites.suite import Origin

_SPEC = re.compile(r"([^/@:]+/[^/@:]+)(?:/([^/@:]+))?(?:@([^:]+))?(?::(.+))?")
_LOG = logging.getLogger(__name__)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def parse_hub(spec: str) -> Origin:
    """The data set of "ORG/NAME[/CONFIG][@REVISION][:SPLIT]"; the default split is train.

    A branch, a tag or no revision is resolved to the commit that it is now.

    Raises:
        UsageError: If it names no data set.
        PromptError: If the hub does not know it, or cannot be reached.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UsageError(
            f"'hub:{spec}' names no data set.", "Use hub:ORG/NAME[/CONFIG][@REVISION][:SPLIT]."
        )
    name, config, revision, split = match.groups()
    return Origin(name, _commit(name, revision), split or "train", config)


def _commit(name: str, revision: str | None) -> str:
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import dataset_info

    try:
        return str(dataset_info(name, revision=revision).sha)
    except Exception as error:  # the hub and the network fail in many ways
        raise _unloadable(name, error) from error


def load_rows(origin: Origin) -> list[Row]:
    """Load the rows of a data set, through the cache of the `datasets` package.

    Raises:
        UsageError: If `datasets` is not installed.
        PromptError: If the data cannot be loaded.
    """
    load_dataset = _loader()
    _LOG.info("Loading %s.", origin.url or f"{origin.name} of the hub")
    try:
        if origin.url:
            kind = origin.url.rpartition(".")[2]
            rows = load_dataset(kind, data_files=origin.url, split="train")
        else:
            rows = load_dataset(
                origin.name, origin.config, split=origin.split, revision=origin.revision
            )
        return [(n, f"{origin.name}, row {n}", row) for n, row in enumerate(rows, start=1)]
    except Exception as error:  # the hub, the network and data files fail in many ways
        raise _unloadable(origin.name, error) from error


def _loader() -> Callable[..., Any]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise UsageError(
            "Data sets are loaded by the package datasets, which is not installed.",
            "Run: pip install 'tsdi[data]', or name a local file: SUITE:FILE.",
        ) from None
    loader: Callable[..., Any] = load_dataset
    return loader


def _unloadable(name: str, error: Exception) -> PromptError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return PromptError(
        f"Cannot load {name}: {reason.rstrip('.')}.",
        "Check the name and the connection, log in (hf auth login) if it is gated, or download the"
        " file and name it: SUITE:FILE, or FILE:prompt=NAME.",
    )
