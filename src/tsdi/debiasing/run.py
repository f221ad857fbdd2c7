"""``debias``: from a model and labelled prompts to a bias that passed the safety gate.

Estimate, condition, tune, gate: what README's commands do one after the other, with prompts that
are divided so that what chooses never reports. Everything is kept in one folder, and a killed run
goes on with what is done.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tsdi.arguments import Name, as_name, check_counts
from tsdi.bias import Estimation, SafetyBias
from tsdi.bias.case import NOTHING
from tsdi.bias.knobs import Strengths
from tsdi.condition.case import removes_nothing
from tsdi.condition.evidence import describe
from tsdi.debiasing.page import write_debias_report
from tsdi.debiasing.plan import check_goes_on
from tsdi.debiasing.result import BIAS, REPORT, Debiased
from tsdi.debiasing.split import merged_categories, split
from tsdi.engines.address import public_url
from tsdi.engines.base import Sampling
from tsdi.errors import UsageError
from tsdi.evaluation.compare import Comparison, compare_runs
from tsdi.evaluation.evaluate import Judging, evaluate
from tsdi.evaluation.floors import FEWEST_PROMPTS
from tsdi.evaluation.gate import Gated, compare
from tsdi.evaluation.knobs import Space
from tsdi.evaluation.measured import measured
from tsdi.evaluation.tune import tune
from tsdi.evaluation.tuning import Search, by_attack, check_installed, check_prompts
from tsdi.files import (
    check_output,
    to_lines,
    working_in,
    write_bytes,
)
from tsdi.models.biases import CONFIG_FILE
from tsdi.models.compatibility import check_same_tokenizer
from tsdi.models.fingerprint import fingerprint
from tsdi.models.load import LoadOptions, load_tokenizer
from tsdi.report.page import is_report
from tsdi.runs.add_condition import Labels, add_condition
from tsdi.runs.diagnosis_prompts import DiagnosisPrompts
from tsdi.runs.estimate import estimate
from tsdi.runs.generate import Answering
from tsdi.runs.loading import Loading
from tsdi.runs.one_model import OneModel
from tsdi.runs.stage import StageProgress, as_read_back
from tsdi.suites.attacks import check_words, find_attack, unknown_words
from tsdi.suites.load import EVERYDAY, load_prompts
from tsdi.suites.prompts import Prompt, check_kinds, check_known, prompts_sha256
from tsdi.suites.split import distinct

ATTACKS = ("prefix-injection", "role-play")
"""The attacks that a bias is tuned and gated under, where the tokenizer knows their words."""
RANDOM_PROMPTS = 256
LEAST_TRIALS = len(Space(1, condition=Strengths(0.0, 1.0, 1.0)).first())
"""Of a bias with a condition: doing nothing, the condition as it is, a bold one, one strength."""
PARTS, ESTIMATED = "prompts", "estimated"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Debiasing:
    """Settings of a run from a model to a gated bias.

    Attributes:
        pool: What random prompts are drawn from, as for `tsdi.Estimation`.
        prompt_tokens: Random tokens in one of them.
        attacks: Attacks under which settings must keep their floors, and the gate looks; without
            any it is `ATTACKS`, where the model's tokenizer knows their words.
        fewest_prompts: Harmful prompts that a category must have, to be looked at alone.
        trials: Number of settings tried.
        max_new_tokens: Most tokens in an answer.
        batch_size: Prompts answered together.
        seed: Decides the random prompts and the settings that are tried.
        options: How the models' weights are loaded.
    """

    pool: str = "neutral"
    prompt_tokens: int = 48
    attacks: Sequence[str] = ()
    fewest_prompts: int = FEWEST_PROMPTS
    trials: int = 12
    max_new_tokens: int = 32
    batch_size: int = 16
    seed: int = 0
    options: LoadOptions = LoadOptions()

    def __post_init__(self) -> None:
        check_counts(self, "prompt_tokens", "fewest_prompts", "max_new_tokens", "batch_size")
        if self.trials < LEAST_TRIALS:
            raise UsageError(
                f"{LEAST_TRIALS} settings are always tried, {self.trials} trials are too few.",
                f"Give {LEAST_TRIALS} or more.",
            )

    @property
    def estimation(self) -> Estimation:
        """How the bias is estimated."""
        return Estimation(
            RANDOM_PROMPTS, prompt_tokens=self.prompt_tokens, pool=self.pool, seed=self.seed
        )

    @property
    def search(self) -> Search:
        """How settings are searched."""
        return Search(
            fewest_prompts=self.fewest_prompts,
            attacks=self.attacks,
            trials=self.trials,
            seed=self.seed,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            options=self.options,
        )


def debias(
    aligned: Name,
    reference: Name | None,
    out: str | Path,
    prompts: Name = EVERYDAY,
    *,
    settings: Debiasing = Debiasing(),
    judging: Judging = Judging(),
    progress: StageProgress | None = None,
) -> Debiased:
    """Estimate a bias, fit a condition, tune both, and let the safety gate judge the result.

    Prompts are divided in three (`tsdi.debiasing.split`): a condition is fitted to the first part,
    settings are chosen on the second, and the third decides and is reported.

    Args:
        aligned: The model after the safety step: a folder, a hub id or a shipped name.
        reference: The model before it; None where there is none, and something is to stand in for
            it, which the first part of the prompts shows (`tsdi.stand_ins`).
        out: Folder for all that is made; `bias` in it is there only if the gate is open and a gain
            is shown. A killed run goes on when it is called again in the same way.
        prompts: Labelled prompts, as for `tsdi.generate`.
        settings: Settings of estimate, search and gate.
        judging: The judge, and defaults of prompts.
        progress: Called with what is being done, how much of it is done, and how much there is.

    Raises:
        PromptError: If there are too few prompts.
        RunExistsError: If the folder is in use, by a process or by another run.
        TsdiError: If anything cannot be loaded or does not fit.
    """
    aligned = as_name("aligned", aligned)
    other = None if reference is None else as_name("reference", reference)
    out = Path(out)
    judging.check()
    check_installed()  # not after the estimate
    with working_in(out):
        check_output(out / REPORT, "--out", "a report of tsdi's", is_report)
        asked = load_prompts(prompts, settings.seed, judging.kind).prompts
        check_kinds(asked)
        asked = distinct(asked)
        parts = split(asked, settings.fewest_prompts)
        tokenizer = load_tokenizer(aligned, settings.options)
        check_known(asked, tokenizer)
        if other is not None:
            check_same_tokenizer(tokenizer, load_tokenizer(other, settings.options))
        if not settings.attacks:
            settings = replace(settings, attacks=_usual_attacks(asked, tokenizer))
        search = settings.search
        check_prompts(parts["validation"], search)
        check_words(by_attack(parts["validation"], search.attacks), tokenizer)
        decides = {
            "aligned": aligned,
            "reference": other,
            "fingerprints": [fingerprint(aligned), fingerprint(other or "")],
            "prompts": {"name": str(prompts), "sha256": prompts_sha256(asked)},
            "settings": asdict(settings),
            "pool": fingerprint(settings.pool) if Path(settings.pool).is_file() else settings.pool,
            "judging": _of_judging(judging),
        }
        if check_goes_on(out, as_read_back(decides)):
            _forget_partial(out / ESTIMATED)
        (out / PARTS).mkdir(exist_ok=True)
        for name, part in parts.items():
            write_bytes(out / PARTS / f"{name}.jsonl", to_lines(map(_row, part)))
        found = Debiased(
            out=out,
            why_not="",
            tuned=None,
            gated=None,
            attacks=tuple(search.attacks),
            together=tuple(merged_categories(asked, settings.fewest_prompts)),
            prompts={name: dict(Counter(p.kind for p in part)) for name, part in parts.items()},
        )
        run = _Run(aligned, other, out, settings.estimation, search, judging, progress)
        found = run.all(found)
        write_debias_report(out / REPORT, found, decides)
        return found


def _of_judging(judging: Judging) -> dict[str, str]:
    """The judge's settings as text, its address without a password or token."""
    url = judging.options.url
    options = replace(judging.options, url=None if url is None else public_url(url))
    decides = asdict(replace(judging, options=options))
    del decides["cluster"]  # which decides no verdict
    return {key: str(value) for key, value in decides.items()}


def _usual_attacks(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase
) -> tuple[str, ...]:
    """The attacks of `ATTACKS` in words that the model knows."""
    texts = [prompt.messages[-1]["content"] for prompt in prompts[:32]]
    known = [name for name in ATTACKS if not unknown_words(find_attack(name), texts, tokenizer)]
    if not known:
        _LOG.warning(
            "The tokenizer knows no attack's words, so nothing is looked at under attack: name one."
        )
    return tuple(known)


def _forget_partial(estimated: Path) -> None:
    """Remove an estimate that was not finished: its partial sums know their models by name."""
    if estimated.exists() and not (estimated / CONFIG_FILE).exists():
        shutil.rmtree(estimated)


def _row(prompt: Prompt) -> dict[str, Any]:
    """A prompt as a line of a prompt file."""
    return {
        "id": prompt.id,
        "messages": list(prompt.messages),
        "kind": prompt.kind,
        "category": prompt.category,
        "group": prompt.group,
    }


def helps(comparison: Comparison) -> bool:
    """Whether a share of helpful answers has clearly risen, and none has clearly fallen."""
    names = ("compliance", "lookalike_compliance", "correct")
    changes = [comparison.overall[name].change for name in names if name in comparison.overall]
    known = [change for change in changes if change.n]
    return any(one.low > 0 for one in known) and not any(one.high < 0 for one in known)


@dataclass(frozen=True)
class _Run:
    """The steps, each of which takes over what an earlier run has finished."""

    aligned: str
    reference: str | None
    out: Path
    settings: Estimation
    search: Search
    judging: Judging
    progress: StageProgress | None

    def all(self, found: Debiased) -> Debiased:
        """Every step, as far as there is a reason to go on."""
        bias = self._estimate()
        if bias.info.stand_in:
            named = f"the model {bias.info.reference} stood in for one ({bias.info.stand_in})"
            found = replace(found, stand_in=named)
        if removes_nothing(bias):
            verdict = bias.info.diagnosis.get("verdict", "")
            return self._nothing(found, f"{NOTHING.why} {verdict}".strip())
        conditioned = self._condition()
        assert conditioned.condition is not None
        found = replace(found, condition=tuple(describe(conditioned.condition)))
        tuned = self._tune()
        found = replace(found, tuned=tuned)
        if tuned.condition is None and tuned.info.strength == 0:
            return self._nothing(found, "No setting within the floors helps more than none.")
        gated, attacked = self._gate(found.attacks)
        found = replace(found, gated=gated, attacked=attacked)
        if not gated.opens:
            return self._nothing(found, "The safety gate is shut.")
        if not helps(gated.comparison):
            return self._nothing(found, "On the test prompts no gain is shown.")
        tuned.with_measured(measured(gated, found.chosen)).save_pretrained(self.out / BIAS)
        return found

    def _nothing(self, found: Debiased, why: str) -> Debiased:
        """A result without a bias to use; one of an earlier call goes."""
        if (self.out / BIAS / CONFIG_FILE).exists():
            shutil.rmtree(self.out / BIAS)
        return replace(found, why_not=why)

    def _part(self, name: str) -> str:
        return str(self.out / PARTS / f"{name}.jsonl")

    def _estimate(self) -> SafetyBias:
        folder = self.out / ESTIMATED
        if (folder / CONFIG_FILE).exists():
            return SafetyBias.from_pretrained(folder)
        labels, pair = self._part("fit"), self.reference is not None
        return estimate(
            self.aligned,
            self.reference,
            folder,
            self.settings if pair else OneModel(labels, self.settings),
            diagnosis=DiagnosisPrompts([labels]) if pair else DiagnosisPrompts(),
            loading=Loading(self.search.options),
            resume=True,
            progress=self.progress,
        )

    def _condition(self) -> SafetyBias:
        folder = self.out / "conditioned"
        if (folder / CONFIG_FILE).exists():
            return SafetyBias.from_pretrained(folder)
        return add_condition(
            self.aligned,
            str(self.out / ESTIMATED),
            self._part("fit"),
            folder,
            labels=Labels(self.search.attacks),
            options=self.search.options,
            progress=self.progress,
        )

    def _tune(self) -> SafetyBias:
        folder = self.out / "tuned"
        if (folder / CONFIG_FILE).exists():
            return SafetyBias.from_pretrained(folder)
        return tune(
            self.aligned,
            str(self.out / "conditioned"),
            self._part("validation"),
            folder,
            search=self.search,
            judging=self.judging,
            resume=True,
            progress=self.progress,
        ).bias

    def _gate(self, attacks: Sequence[str]) -> tuple[Gated, dict[str, Comparison]]:
        """The gate, and the comparison under each attack."""
        plain, *others = (
            (self._answered("plain", one), self._answered("debiased", one))
            for one in ("", *attacks)
        )
        attacked = {name: compare_runs(*pair) for name, pair in zip(attacks, others, strict=True)}
        return compare(*plain, others, self.search.fewest_prompts), attacked

    def _answered(self, arm: str, attack: str) -> Path:
        folder = self.out / "runs" / (f"{arm}-{attack}" if attack else arm)
        evaluate(
            self.aligned,
            self._part("test"),
            folder,
            bias=str(self.out / "tuned") if arm == "debiased" else None,
            answering=Answering(
                sampling=Sampling(self.search.max_new_tokens),
                batch_size=self.search.batch_size,
                attack=attack or None,
                options=self.search.options,
            ),
            judging=self.judging,
            resume=True,
            progress=self.progress,
        )
        return folder
