"""The two models of an estimate: loaded one by one, or two adapters on one set of weights."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import get_max_memory
from transformers import PreTrainedModel

from tsdi.errors import ModelError, UsageError
from tsdi.models.load import LoadOptions, adapter_base, add_adapter, attach_adapter, load_model
from tsdi.models.names import check_no_export, locate, split_revision
from tsdi.models.shipped import resolve_model

_LOG = logging.getLogger(__name__)
_ROOM = 1.2  # times a model's weights


@dataclass(frozen=True)
class Side:
    """One of the two models of an estimate, loaded while its context is open.

    Attributes:
        name: Folder, hub id or adapter name.
        open: Gives a context with the model.
        loaded: Whether the model is in memory already, so that opening it costs nothing.
        revision: The commit of a model or adapter from the hub.
        source: Folder or hub id that it is loaded from; "" if that is not known.
        changed: Hash of what opening it changes in the model; "" if that is nothing.
    """

    name: str
    open: Callable[[], AbstractContextManager[PreTrainedModel]]
    loaded: bool = True
    revision: str | None = None
    source: str = ""
    changed: str = ""


def as_side(model: PreTrainedModel | Side) -> Side:
    """A loaded model as a ``Side``; a side as it is."""
    if isinstance(model, Side):
        return model
    name = getattr(model.config, "_name_or_path", "") or type(model).__name__
    return Side(name, lambda: nullcontext(model))


def load_side(name: str, options: LoadOptions) -> Side:
    """Load one model by name.

    Raises:
        ModelError: If it cannot be loaded.
    """
    check_no_export(name)
    return _named(as_side(load_model(name, options)), name)


def load_pair(
    aligned: str, reference: str, options: LoadOptions, *, one_at_a_time: bool = False
) -> tuple[Side, Side]:
    """Load a pair by name; adapters on one base model share its weights.

    If both are adapters on one base, or the reference is the base of the aligned one, the base is
    loaded once, if PEFT can hold both. Else both are held in memory if it has room for two, and
    loaded in turn if not, or if that is asked for.

    Raises:
        ModelError: If one cannot be loaded.
    """
    for name in (aligned, reference):
        check_no_export(name)
    sides = _pair(aligned, reference, options, one_at_a_time)
    return _named(sides[0], aligned), _named(sides[1], reference)


def _pair(
    aligned: str, reference: str, options: LoadOptions, one_at_a_time: bool
) -> tuple[Side, Side]:
    base = adapter_base(aligned)
    reference_base = adapter_base(reference)
    if base is not None and same_model(base, reference_base or reference):
        # PEFT takes no adapter names that are part of its prefixes, such as "a" or "r".
        model = attach_adapter(load_model(base, options), aligned, "aligned")
        if reference_base is None:
            return adapter_sides(model, "aligned")
        try:
            add_adapter(model, reference, "reference")
            return adapter_sides(model, "aligned", "reference")
        except ModelError:  # each alone may fit, such as one that saves what the other adapts
            del model
            _LOG.info("PEFT holds no two such adapters on one base model: each gets its own.")
    in_turn = (
        Side(aligned, lambda: _loaded(aligned, options), loaded=False),
        Side(reference, lambda: _loaded(reference, options), loaded=False),
    )
    if one_at_a_time:
        return in_turn
    first = load_model(aligned, options)
    if _has_room(first):
        return as_side(first), as_side(load_model(reference, options))
    del first
    _forget()
    _LOG.info("Memory has no room for two such models: they are loaded in turn.")
    return in_turn


def _has_room(model: PreTrainedModel) -> bool:
    """Whether a second model of this size fits where it lies, beside what both need to run."""
    return _ROOM * sum(one.nbytes for one in model.parameters()) < _free_memory(model)


def _free_memory(model: PreTrainedModel) -> int:
    """Bytes that are free on the GPUs that a model lies on, else in this machine's memory."""
    gpus = {one.device for one in model.parameters() if one.device.type == "cuda"}
    if gpus:
        return sum(torch.cuda.mem_get_info(gpu)[0] for gpu in gpus)
    return int([*get_max_memory().values()][-1])  # any GPUs come first


def _forget() -> None:
    """Give back the memory of what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _named(side: Side, name: str) -> Side:
    """A side of a folder or hub id."""
    return replace(side, name=name, source=name, revision=locate(name).revision)


@contextmanager
def _loaded(name: str, options: LoadOptions) -> Iterator[PreTrainedModel]:
    model = load_model(name, options)
    try:
        yield model
    finally:
        del model
        _forget()


def same_model(one: str, other: str) -> bool:
    """Whether two names mean the same folder, or the same commit of a hub id."""
    one, other = resolve_model(one), resolve_model(other)
    if Path(one).exists() and Path(other).exists():
        return Path(one).resolve() == Path(other).resolve()
    if split_revision(one)[0] != split_revision(other)[0]:
        return False
    return one == other or locate(one) == locate(other)


def check_apart(aligned: PreTrainedModel | Side, reference: PreTrainedModel | Side) -> None:
    """Raise UsageError for two models in memory that share modules."""
    if isinstance(aligned, Side) or isinstance(reference, Side) or aligned is reference:
        return
    if any(module is reference for module in aligned.modules()) or any(
        module is aligned for module in reference.modules()
    ):
        raise UsageError(
            "The two models are one: they share their modules, so nothing would differ.",
            "For adapters on one base take tsdi.models.sides.adapter_sides.",
        )


def adapter_sides(
    model: PreTrainedModel, aligned: str, reference: str | None = None
) -> tuple[Side, Side]:
    """Aligned and reference model from one PEFT model in memory.

    A reference of None is the base model, adapters off.

    Raises:
        ModelError: If the model has no such adapter.
    """
    known = list(getattr(model, "peft_config", {}))
    for name in (aligned, reference):
        if name is not None and name not in known:
            raise ModelError(f"The model has no adapter {name!r}.", f"It has: {known}.")
    base = as_side(model).name
    return (
        Side(f"{base} + {aligned}", lambda: _adapter(model, aligned)),
        Side(f"{base} + {reference}" if reference else base, lambda: _adapter(model, reference)),
    )


@contextmanager
def _adapter(model: Any, name: str | None) -> Iterator[PreTrainedModel]:
    if name is None:
        with model.disable_adapter():
            yield model
        return
    before = model.active_adapter
    model.set_adapter(name)
    try:
        yield model
    finally:
        model.set_adapter(before)
