"""What tsdi is about: the safety bias, its estimate, its file and its diagnosis."""

from tsdi.bias.diagnosis import Examination, diagnose, recommend
from tsdi.bias.estimate import Estimation, estimate_bias
from tsdi.bias.file import BiasInfo
from tsdi.bias.pool import TokenPool
from tsdi.bias.safety_bias import SafetyBias

__all__ = [
    "BiasInfo",
    "Estimation",
    "Examination",
    "SafetyBias",
    "TokenPool",
    "diagnose",
    "estimate_bias",
    "recommend",
]
