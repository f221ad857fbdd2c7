"""The safety bias: its estimate, its file and its diagnosis."""

from tsdi.bias.compare import compare_biases
from tsdi.bias.diagnosis import diagnose, recommend
from tsdi.bias.estimate import estimate_bias
from tsdi.bias.estimation import Estimation
from tsdi.bias.examination import Examination
from tsdi.bias.first_order import LabelledIds, fit_slope
from tsdi.bias.info import BiasInfo
from tsdi.bias.pool import TokenPool
from tsdi.bias.safety_bias import SafetyBias

__all__ = [
    "BiasInfo",
    "Estimation",
    "Examination",
    "LabelledIds",
    "SafetyBias",
    "TokenPool",
    "compare_biases",
    "diagnose",
    "estimate_bias",
    "fit_slope",
    "recommend",
]
