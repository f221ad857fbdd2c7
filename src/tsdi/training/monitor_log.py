"""Settings of the bias monitor, its measurements, and the JSON-lines log of these."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tsdi.errors import FormatError
from tsdi.files import parse_json, unwritable, write_bytes
from tsdi.yaml_file import Positive, Strict

GROUPS = 8
"""Groups of random prompts, for the standard error."""

_Share = Annotated[float, Field(ge=0, le=1)]


class MonitorSettings(Strict):
    """Settings of the bias monitor: interval, prompts and limits of the alarm.

    Attributes:
        every: Optimiser steps between two measurements; one at step 0 and at the end come besides.
        prompts: Random prompts.
        positions: First response positions, the bias of which is measured.
        pool: Token pool of random prompts, as in `tsdi.bias.TokenPool.from_name`.
        phrases: JSON file with beginnings of answers, as for `tsdi estimate`; None is English.
        suite: File of harmless prompts, as in `read_prompts`; None is the one of tsdi.
        max_new_tokens: Length of the answers to them.
        shift_limit: Refusal-token shift, in nats, above which refusal may be context-independent.
        compliance_floor: It is if compliance also is below this share of what it was at step 0.
        stop: End the training then.
    """

    every: Positive = 25
    prompts: Annotated[int, Field(ge=GROUPS)] = 32
    positions: Positive = 4
    pool: str = "neutral"
    phrases: Path | None = None
    suite: Path | None = None
    max_new_tokens: Positive = 16
    shift_limit: Annotated[float, Field(gt=0)] = 1.0
    compliance_floor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    stop: bool = False


class Measurement(BaseModel):
    """The bias monitor's measurements at one step of training.

    Attributes:
        step: Optimiser steps done.
        refusal_shift: Refusal-token shift where an answer begins (position 0), in nats: the logit
            shift on random prompts against the reference, mean over the first tokens of refusing
            openers less mean over those of complying openers.
        refusal_shift_error: Its standard error over random prompts.
        refusal_shift_mean: The shift, averaged over positions.
        refusal_shift_by_position: The shift at each position.
        bias_norm: Root mean square of the bias (the centred mean shift) over positions and tokens.
        compliance: Share of the harmless prompts that are answered.
        refused: Share that are refused, by the rule `refusal-phrases`.
        degenerate: Share whose answer is empty; the three add up to 1.
        seconds: Time of this measurement.
        monitor_seconds: Time of all measurements so far.
        training_seconds: Time of the training so far, measurements left out.
        share_of_time: monitor_seconds / training_seconds; None at step 0.
        alarm: Whether refusal is context-independent, by the settings' limits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    step: Annotated[int, Field(ge=0)]
    refusal_shift: float
    refusal_shift_error: float
    refusal_shift_mean: float
    refusal_shift_by_position: tuple[float, ...]
    bias_norm: float
    compliance: _Share
    refused: _Share
    degenerate: _Share
    seconds: float
    monitor_seconds: float
    training_seconds: float
    share_of_time: float | None
    alarm: bool


def read_log(path: Path) -> list[Measurement]:
    """The measurements of a run, in order of their steps; a torn last line is passed over.

    Raises:
        FormatError: If the file cannot be read or is no log of the monitor.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise FormatError(f"Cannot read {path}: {error.strerror}.") from None
    found: list[Measurement] = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(Measurement.model_validate(parse_json(line)))
        except ValueError as error:  # of pydantic too
            if number == len(lines) and not isinstance(error, ValidationError):
                break
            raise FormatError(
                f"{path}, line {number} is no measurement of the bias monitor.", "Delete the file."
            ) from None
    return found


def write_log(path: Path, measurements: Sequence[Measurement]) -> None:
    """Write a log anew, whole or not at all, and the folders that it is in.

    Raises:
        TsdiError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    write_bytes(path, b"".join(map(_line, measurements)))


def append_to_log(path: Path, measurement: Measurement) -> None:
    """Add a measurement to a log, for good.

    Raises:
        TsdiError: If it cannot be written.
    """
    try:
        with path.open("ab") as file:
            file.write(_line(measurement))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritable(path, error) from error


def _line(measurement: Measurement) -> bytes:
    return measurement.model_dump_json().encode() + b"\n"
