"""tsdi: find the refusal bias that safety alignment leaves in a language model, and take it out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsdi.bias import Estimation, Examination, SafetyBias, diagnose, estimate_bias, recommend
    from tsdi.models.load import load_model, load_tokenizer

__version__ = "0.1.0"
__all__ = [
    "Estimation",
    "Examination",
    "SafetyBias",
    "__version__",
    "diagnose",
    "estimate_bias",
    "load_model",
    "load_tokenizer",
    "recommend",
]
_HOMES = {
    "Estimation": "tsdi.bias",
    "Examination": "tsdi.bias",
    "SafetyBias": "tsdi.bias",
    "diagnose": "tsdi.bias",
    "estimate_bias": "tsdi.bias",
    "recommend": "tsdi.bias",
    "load_model": "tsdi.models.load",
    "load_tokenizer": "tsdi.models.load",
}


def __getattr__(name: str) -> Any:
    # Loading torch takes seconds; `import tsdi` does not.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tsdi' has no attribute {name!r}")
