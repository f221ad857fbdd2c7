"""tsdi: find the refusal bias that safety alignment leaves in a language model, and take it out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsdi.bias import Estimation, SafetyBias, estimate_bias, recommend

__version__ = "0.1.0"
__all__ = ["Estimation", "SafetyBias", "__version__", "estimate_bias", "recommend"]


def __getattr__(name: str) -> Any:
    # Loading torch takes seconds; `import tsdi` does not.
    if name in ("Estimation", "SafetyBias", "estimate_bias", "recommend"):
        return getattr(import_module("tsdi.bias"), name)
    raise AttributeError(f"module 'tsdi' has no attribute {name!r}")
