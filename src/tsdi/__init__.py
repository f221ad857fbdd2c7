"""tsdi: find the refusal bias that safety alignment leaves in a language model, and take it out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsdi import export, serving
    from tsdi.bias import Estimation, SafetyBias, estimate_bias, recommend
    from tsdi.bias.show import show
    from tsdi.engines.base import Sampling
    from tsdi.engines.open import EngineChoice
    from tsdi.evaluation.evaluate import Judging, evaluate
    from tsdi.evaluation.tune import tune
    from tsdi.evaluation.tuning import Search
    from tsdi.judging.base import JudgeOptions
    from tsdi.models.chat import ChatFormat
    from tsdi.models.load import LoadOptions, load_tokenizer
    from tsdi.runs.estimate import Examination, Loading, estimate
    from tsdi.runs.generate import Answering, answer, generate
    from tsdi.suites.load import PromptSource

__version__ = "0.1.0"
_ROOMS = ("export", "serving")
_PLACES = {
    "Estimation": "tsdi.bias",
    "SafetyBias": "tsdi.bias",
    "estimate_bias": "tsdi.bias",
    "recommend": "tsdi.bias",
    "evaluate": "tsdi.evaluation.evaluate",
    "estimate": "tsdi.runs.estimate",
    "Examination": "tsdi.runs.estimate",
    "Loading": "tsdi.runs.estimate",
    "load_tokenizer": "tsdi.models.load",
    "show": "tsdi.bias.show",
    "tune": "tsdi.evaluation.tune",
    "Search": "tsdi.evaluation.tuning",
    "answer": "tsdi.runs.generate",
    "generate": "tsdi.runs.generate",
    "Answering": "tsdi.runs.generate",
    "ChatFormat": "tsdi.models.chat",
    "EngineChoice": "tsdi.engines.open",
    "JudgeOptions": "tsdi.judging.base",
    "Judging": "tsdi.evaluation.evaluate",
    "LoadOptions": "tsdi.models.load",
    "PromptSource": "tsdi.suites.load",
    "Sampling": "tsdi.engines.base",
}
__all__ = [
    "Answering",
    "ChatFormat",
    "EngineChoice",
    "Estimation",
    "Examination",
    "JudgeOptions",
    "Judging",
    "LoadOptions",
    "Loading",
    "PromptSource",
    "SafetyBias",
    "Sampling",
    "Search",
    "__version__",
    "answer",
    "estimate",
    "estimate_bias",
    "evaluate",
    "export",
    "generate",
    "load_tokenizer",
    "recommend",
    "serving",
    "show",
    "tune",
]


def __getattr__(name: str) -> Any:
    # Loading torch takes seconds; `import tsdi` does not.
    if name in _ROOMS:
        return import_module(f"tsdi.{name}")
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'tsdi' has no attribute {name!r}")
