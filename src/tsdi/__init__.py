"""tsdi: find the refusal bias that safety alignment leaves in a language model, and take it out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsdi import audit, export, serving, study, suites
    from tsdi.audit.labels import LabelFormat
    from tsdi.bias import Estimation, Examination, SafetyBias, diagnose, estimate_bias, recommend
    from tsdi.bias.show import show
    from tsdi.condition import Condition, Fitting, Labelled, fit_condition
    from tsdi.engines.base import Sampling
    from tsdi.engines.open import EngineChoice
    from tsdi.evaluation.evaluate import Judging, evaluate
    from tsdi.evaluation.gate import compare
    from tsdi.evaluation.tune import tune
    from tsdi.evaluation.tuning import Search
    from tsdi.evaluation.winrate import winrate
    from tsdi.export.forms import StaticForm
    from tsdi.judging.base import JudgeOptions
    from tsdi.judging.pairwise import PairwiseJudge
    from tsdi.judging.registry import judges
    from tsdi.models.chat import ChatFormat
    from tsdi.models.load import LoadOptions, load_model, load_tokenizer
    from tsdi.runs.condition import Labels, add_condition
    from tsdi.runs.estimate import DiagnosisPrompts, Loading, estimate
    from tsdi.runs.generate import Answering, answer, generate
    from tsdi.serving.server import Place
    from tsdi.stats.sample_size import sample_size
    from tsdi.study.run import demo
    from tsdi.suites.load import PromptSource
    from tsdi.training.cleanse import Criterion, cleanse
    from tsdi.training.merge import merge
    from tsdi.training.train import train

__version__ = "0.1.0"
__all__ = [
    "Answering",
    "ChatFormat",
    "Condition",
    "Criterion",
    "DiagnosisPrompts",
    "EngineChoice",
    "Estimation",
    "Examination",
    "Fitting",
    "JudgeOptions",
    "Judging",
    "LabelFormat",
    "Labelled",
    "Labels",
    "LoadOptions",
    "Loading",
    "PairwiseJudge",
    "Place",
    "PromptSource",
    "SafetyBias",
    "Sampling",
    "Search",
    "StaticForm",
    "__version__",
    "add_condition",
    "answer",
    "audit",
    "cleanse",
    "compare",
    "demo",
    "diagnose",
    "estimate",
    "estimate_bias",
    "evaluate",
    "export",
    "fit_condition",
    "generate",
    "judges",
    "load_model",
    "load_tokenizer",
    "merge",
    "recommend",
    "sample_size",
    "serving",
    "show",
    "study",
    "suites",
    "train",
    "tune",
    "winrate",
]
_HOMES = {
    "Answering": "tsdi.runs.generate",
    "ChatFormat": "tsdi.models.chat",
    "Condition": "tsdi.condition",
    "Criterion": "tsdi.training.cleanse",
    "DiagnosisPrompts": "tsdi.runs.estimate",
    "EngineChoice": "tsdi.engines.open",
    "Estimation": "tsdi.bias",
    "Examination": "tsdi.bias",
    "Fitting": "tsdi.condition",
    "JudgeOptions": "tsdi.judging.base",
    "Judging": "tsdi.evaluation.evaluate",
    "LabelFormat": "tsdi.audit.labels",
    "Labelled": "tsdi.condition",
    "Labels": "tsdi.runs.condition",
    "LoadOptions": "tsdi.models.load",
    "Loading": "tsdi.runs.estimate",
    "PairwiseJudge": "tsdi.judging.pairwise",
    "Place": "tsdi.serving.server",
    "PromptSource": "tsdi.suites.load",
    "SafetyBias": "tsdi.bias",
    "Sampling": "tsdi.engines.base",
    "Search": "tsdi.evaluation.tuning",
    "StaticForm": "tsdi.export.forms",
    "add_condition": "tsdi.runs.condition",
    "answer": "tsdi.runs.generate",
    "cleanse": "tsdi.training.cleanse",
    "compare": "tsdi.evaluation.gate",
    "demo": "tsdi.study.run",
    "diagnose": "tsdi.bias",
    "estimate": "tsdi.runs.estimate",
    "estimate_bias": "tsdi.bias",
    "evaluate": "tsdi.evaluation.evaluate",
    "fit_condition": "tsdi.condition",
    "generate": "tsdi.runs.generate",
    "judges": "tsdi.judging.registry",
    "load_model": "tsdi.models.load",
    "load_tokenizer": "tsdi.models.load",
    "merge": "tsdi.training.merge",
    "recommend": "tsdi.bias",
    "sample_size": "tsdi.stats.sample_size",
    "show": "tsdi.bias.show",
    "train": "tsdi.training.train",
    "tune": "tsdi.evaluation.tune",
    "winrate": "tsdi.evaluation.winrate",
}
_ROOMS = ("audit", "export", "serving", "study", "suites")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # Loading torch takes seconds; `import tsdi` does not.
    if name in _ROOMS:
        return import_module(f"tsdi.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tsdi' has no attribute {name!r}")
