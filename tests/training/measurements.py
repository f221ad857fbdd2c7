"""Measurements of the bias monitor, made up."""

from typing import Any

from tsdi.training.monitor_log import Measurement


def measurement(**changes: Any) -> Measurement:
    values = {
        "step": 25,
        "refusal_shift": 0.0,
        "refusal_shift_error": 0.0,
        "refusal_shift_mean": 0.0,
        "refusal_shift_by_position": (0.0,),
        "bias_norm": 0.0,
        "compliance": 1.0,
        "refused": 0.0,
        "degenerate": 0.0,
        "seconds": 1.0,
        "monitor_seconds": 1.0,
        "training_seconds": 50.0,
        "share_of_time": 0.02,
        "alarm": False,
    }
    return Measurement(**{**values, **changes})
