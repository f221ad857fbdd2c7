"""tsdi: find the refusal bias that safety alignment leaves in a language model, and take it out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsdi import audit, export, playground, serving, study, suites
    from tsdi.audit.labels import LabelFormat
    from tsdi.bias import (
        Estimation,
        Examination,
        SafetyBias,
        diagnose,
        estimate_bias,
        fit_slope,
        recommend,
    )
    from tsdi.bias.show import show
    from tsdi.cluster import Cluster
    from tsdi.condition import Condition, Fitting, Labelled, fit_condition
    from tsdi.debiasing.run import Debiasing, debias
    from tsdi.demos.run import demo
    from tsdi.engines.base import Sampling
    from tsdi.engines.choice import EngineChoice
    from tsdi.evaluation.evaluate import Judging, evaluate
    from tsdi.evaluation.gate import compare
    from tsdi.evaluation.gather import gather
    from tsdi.evaluation.label import decide, label
    from tsdi.evaluation.tune import tune
    from tsdi.evaluation.tuning import Search
    from tsdi.evaluation.winrate import winrate
    from tsdi.export.forms import StaticForm
    from tsdi.harness.view import view
    from tsdi.judging.base import JudgeOptions
    from tsdi.judging.pairwise import PairwiseJudge
    from tsdi.judging.registry import judges
    from tsdi.models.chat import ChatFormat
    from tsdi.models.load import LoadOptions, load_model, load_tokenizer
    from tsdi.runs.add_condition import Labels, add_condition
    from tsdi.runs.diagnosis_prompts import DiagnosisPrompts
    from tsdi.runs.estimate import FirstOrder, estimate
    from tsdi.runs.generate import Answering, answer, generate
    from tsdi.runs.loading import Loading
    from tsdi.runs.one_model import OneModel
    from tsdi.runs.reproduce import reproduce
    from tsdi.runs.sums import estimate_shard
    from tsdi.serving.server import Place
    from tsdi.stats.sample_size import sample_size
    from tsdi.training.cleanse import Criterion, cleanse
    from tsdi.training.merge import merge
    from tsdi.training.train import train

__version__ = "0.1.0"
__all__ = [
    "Answering",
    "ChatFormat",
    "Cluster",
    "Condition",
    "Criterion",
    "Debiasing",
    "DiagnosisPrompts",
    "EngineChoice",
    "Estimation",
    "Examination",
    "FirstOrder",
    "Fitting",
    "JudgeOptions",
    "Judging",
    "LabelFormat",
    "Labelled",
    "Labels",
    "LoadOptions",
    "Loading",
    "OneModel",
    "PairwiseJudge",
    "Place",
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
    "debias",
    "decide",
    "demo",
    "diagnose",
    "estimate",
    "estimate_bias",
    "estimate_shard",
    "evaluate",
    "export",
    "fit_condition",
    "fit_slope",
    "gather",
    "generate",
    "judges",
    "label",
    "load_model",
    "load_tokenizer",
    "merge",
    "playground",
    "recommend",
    "reproduce",
    "sample_size",
    "serving",
    "show",
    "study",
    "suites",
    "train",
    "tune",
    "view",
    "winrate",
]
_NAMES = {
    "tsdi.audit.labels": ("LabelFormat",),
    "tsdi.bias": (
        "Estimation",
        "Examination",
        "SafetyBias",
        "diagnose",
        "estimate_bias",
        "fit_slope",
        "recommend",
    ),
    "tsdi.bias.show": ("show",),
    "tsdi.cluster": ("Cluster",),
    "tsdi.condition": ("Condition", "Fitting", "Labelled", "fit_condition"),
    "tsdi.engines.base": ("Sampling",),
    "tsdi.engines.choice": ("EngineChoice",),
    "tsdi.evaluation.evaluate": ("Judging", "evaluate"),
    "tsdi.evaluation.gate": ("compare",),
    "tsdi.evaluation.gather": ("gather",),
    "tsdi.evaluation.label": ("decide", "label"),
    "tsdi.evaluation.tune": ("tune",),
    "tsdi.evaluation.tuning": ("Search",),
    "tsdi.evaluation.winrate": ("winrate",),
    "tsdi.export.forms": ("StaticForm",),
    "tsdi.harness.view": ("view",),
    "tsdi.judging.base": ("JudgeOptions",),
    "tsdi.judging.pairwise": ("PairwiseJudge",),
    "tsdi.judging.registry": ("judges",),
    "tsdi.models.chat": ("ChatFormat",),
    "tsdi.models.load": ("LoadOptions", "load_model", "load_tokenizer"),
    "tsdi.runs.add_condition": ("Labels", "add_condition"),
    "tsdi.runs.diagnosis_prompts": ("DiagnosisPrompts",),
    "tsdi.runs.estimate": ("FirstOrder", "estimate"),
    "tsdi.runs.generate": ("Answering", "answer", "generate"),
    "tsdi.runs.loading": ("Loading",),
    "tsdi.runs.one_model": ("OneModel",),
    "tsdi.runs.reproduce": ("reproduce",),
    "tsdi.runs.sums": ("estimate_shard",),
    "tsdi.serving.server": ("Place",),
    "tsdi.stats.sample_size": ("sample_size",),
    "tsdi.debiasing.run": ("Debiasing", "debias"),
    "tsdi.demos.run": ("demo",),
    "tsdi.training.cleanse": ("Criterion", "cleanse"),
    "tsdi.training.merge": ("merge",),
    "tsdi.training.train": ("train",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
_ROOMS = ("audit", "export", "playground", "serving", "study", "suites")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # Loading torch takes seconds; `import tsdi` does not.
    if name in _ROOMS:
        return import_module(f"tsdi.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tsdi' has no attribute {name!r}")
