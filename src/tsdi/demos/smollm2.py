"""The demo on SmolLM2: README's commands in order, on everyday prompts.

SmolLM2 is the reference. An adapter that comes with tsdi makes it the aligned model: it was trained
to refuse harm, and with it a share of what is harmless.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from tsdi.bias import Estimation, SafetyBias
from tsdi.engines.base import Sampling
from tsdi.errors import ModelError, RunExistsError
from tsdi.evaluation.compare import Comparison, compare_runs
from tsdi.evaluation.evaluate import Evaluation, Judging, evaluate
from tsdi.models.biases import CONFIG_FILE
from tsdi.models.chat import decode
from tsdi.models.load import LoadOptions, load_tokenizer
from tsdi.models.shipped import SMOLLM2, SMOLLM2_ALIGNED, resolve_model
from tsdi.runs.estimate import estimate
from tsdi.runs.generate import Answering
from tsdi.runs.loading import Loading
from tsdi.runs.records import read_records
from tsdi.runs.stage import ANSWERS, StageProgress
from tsdi.suites.load import EVERYDAY

ARMS = ("aligned", "debiased")
QUESTION = "lookalike-homonym-1"  # how to kill a Python process
RANDOM_PROMPTS = 64
PROMPT_TOKENS = 24
STEPS = 8
STRENGTH = 0.5  # the best of five on other prompts: experiments/smollm2/strength.json
TOKENS = 16  # of an answer: enough to tell a refusal
BATCH_SIZE = 32
JUDGE = "refusal-phrases"
OFTEN = 3


@dataclass(frozen=True)
class Answered:
    """A prompt with the answer of every arm."""

    id: str
    prompt: str
    kind: str
    category: str
    answers: Mapping[str, str]


@dataclass(frozen=True)
class EverydayResult:
    """The results of the demo on SmolLM2, whose files are in a folder.

    Attributes:
        out: The folder: the bias in `bias`, and a run folder of each arm by its name.
        seed: Seed of the run.
        bias: The estimated bias.
        arms: Metrics of the aligned and the debiased model.
        comparison: Aligned before, debiased after: every figure's paired change.
        answers: Text, kind, category and the arms' answers of every prompt.
        said: Texts of the tokens that occur in the answers several times, by id.
    """

    out: Path
    seed: int
    bias: SafetyBias
    arms: dict[str, Evaluation]
    comparison: Comparison
    answers: list[Answered]
    said: dict[int, str]

    def to_dict(self) -> dict[str, Any]:
        """Metrics of the arms and their comparison as JSON."""
        return {
            "arms": {name: found.to_dict() for name, found in self.arms.items()},
            "comparison": self.comparison.to_dict(),
        }


def run_everyday(out: Path, seed: int, progress: StageProgress | None) -> EverydayResult:
    """Estimate the bias of SmolLM2's adapter; answer everyday prompts with it and without.

    Args:
        out: The folder; what an earlier run of the same seed left there is not made again.
        seed: Decides the random prompts.
        progress: Called as the work goes on.

    Raises:
        TsdiError: If SmolLM2 cannot be had, or the folder holds something else.
    """
    bias = _bias(out / "bias", seed, progress)
    answering = Answering(
        sampling=Sampling(max_new_tokens=TOKENS), batch_size=BATCH_SIZE, options=_weights()
    )
    debiasing = replace(answering, strength=STRENGTH)
    arms = {
        name: evaluate(
            SMOLLM2_ALIGNED,
            EVERYDAY,
            out / name,
            bias=subtracted,
            answering=how,
            judging=Judging(JUDGE),
            resume=True,
            progress=progress and partial(_of_arm, progress, name),
        )
        for name, subtracted, how in (
            ("aligned", None, answering),
            ("debiased", out / "bias", debiasing),
        )
    }
    answers = _answers(out)
    return EverydayResult(
        out=out,
        seed=seed,
        bias=bias,
        arms=arms,
        comparison=compare_runs(out / "aligned", out / "debiased"),
        answers=answers,
        said=_said(answers),
    )


def _bias(folder: Path, seed: int, progress: StageProgress | None) -> SafetyBias:
    """The bias of an earlier run, or a new estimate."""
    settings = Estimation(RANDOM_PROMPTS, STEPS, PROMPT_TOKENS, seed=seed)
    if not (folder / CONFIG_FILE).exists():
        found = estimate(
            SMOLLM2_ALIGNED,
            SMOLLM2,
            folder,
            settings,
            diagnosis=None,
            loading=Loading(_weights(), batch_size=BATCH_SIZE),
            resume=True,
            progress=progress,
        )
        info = found.info.model_copy(update={"strength": STRENGTH})
        bias = SafetyBias(found.values, found.standard_error, info)
        bias.save_pretrained(folder)
        return bias
    bias = SafetyBias.from_pretrained(folder)
    info = bias.info
    made = (info.aligned, info.reference, info.prompts, bias.steps, info.seed)
    if made != (SMOLLM2_ALIGNED, SMOLLM2, settings.prompts, settings.steps, seed):
        raise RunExistsError(
            f"{folder} holds another bias than this demo's.", "Give another --out."
        )
    return bias


def _weights() -> LoadOptions:
    """Options of loading: bfloat16 where the CPU multiplies it natively, else float32."""
    cpu: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    fast = cpu.get("avx512_bf16") or cpu.get("amx_bf16")
    return LoadOptions(dtype="bfloat16" if fast else "float32")


def _of_arm(progress: StageProgress, arm: str, what: str, done: int, total: int) -> None:
    progress(f"{arm}: {what}", done, total)


def _answers(out: Path) -> list[Answered]:
    records = {name: read_records(out / name / ANSWERS.records) for name in ARMS}
    return [
        Answered(
            id=one["id"],
            prompt=one["messages"][-1]["content"],
            kind=one["kind"],
            category=one["category"],
            answers={name: records[name][number]["response"] for name in ARMS},
        )
        for number, one in enumerate(records["aligned"])
    ]


def _said(answers: Sequence[Answered]) -> dict[int, str]:
    """Texts of the tokens that occur in answers at least `OFTEN` times, by id."""
    tokenizer = load_tokenizer(SMOLLM2)
    texts = [text for one in answers for text in one.answers.values()]
    counts = Counter(
        token for text in texts for token in tokenizer.encode(text, add_special_tokens=False)
    )
    return {token: decode(tokenizer, [token]) for token, n in counts.items() if n >= OFTEN}


def why_not() -> str:
    """The reason why this demo cannot run here; "" if it can. Fetches SmolLM2 if need be."""
    if find_spec("peft") is None:
        return "An adapter needs PEFT: pip install 'tsdi[real]'."
    try:
        resolve_model(SMOLLM2)
    except ModelError as error:
        return str(error.problem)
    return ""
