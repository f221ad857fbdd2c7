"""A small OpenAI-compatible server around a debiased model; it loads and runs nothing else."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsdi.serving.server import Place, Server, serve

__all__ = ["Place", "Server", "serve"]


def __getattr__(name: str) -> Any:
    # vLLM's server takes our door from here, and needs nothing else.
    if name in ("Place", "Server", "serve"):
        return getattr(import_module("tsdi.serving.server"), name)
    raise AttributeError(f"module 'tsdi.serving' has no attribute {name!r}")
