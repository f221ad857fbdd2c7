"""``tune``: search of strengths under floors of safety, written into the bias."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tsdi.arguments import Name, as_name
from tsdi.baselines.prompting import PromptedEngine
from tsdi.bias import SafetyBias
from tsdi.bias.knobs import Knobs
from tsdi.cluster import Cluster
from tsdi.condition.evidence import among_fitted
from tsdi.engines.base import Engine, Sampling
from tsdi.engines.choice import Used
from tsdi.engines.open import load_engine, tokenizer_of
from tsdi.errors import RunExistsError, UsageError
from tsdi.evaluation.evaluate import Judging
from tsdi.evaluation.knobs import Space
from tsdi.evaluation.metrics import Judged
from tsdi.evaluation.shared_search import check_storage, search_together
from tsdi.evaluation.tuning import (
    PLAIN,
    Answers,
    Search,
    Tuning,
    by_attack,
    check_installed,
    check_prompts,
    check_trials,
    search_knobs,
)
from tsdi.files import check_goes_on, json_sha256, read_object, working_in, write_json
from tsdi.judging.base import Judge
from tsdi.judging.registry import check_judge, default_judge, load_judge
from tsdi.models.biases import CONFIG_FILE
from tsdi.models.fingerprint import alike, fingerprint
from tsdi.models.load import load_tokenizer
from tsdi.models.shipped import longest_answer
from tsdi.runs.generate import check_fits
from tsdi.runs.judged import judge_answers
from tsdi.runs.records import Record
from tsdi.runs.stage import StageProgress, as_read_back
from tsdi.suites.attacks import check_words, find_attack
from tsdi.suites.load import load_prompts
from tsdi.suites.prompts import Prompt, check_kinds, check_known, prompts_sha256
from tsdi.suites.split import distinct

TRIALS, SEARCH = "trials.jsonl", "search.json"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuned:
    """A tuned bias, and the search behind it.

    Attributes:
        bias: The bias as it was saved, with the evidence.
        found: The settings tried, and the choice among them.
        judge: The judge's description.
    """

    bias: SafetyBias
    found: Tuning
    judge: Record


@dataclass(frozen=True)
class _Task:
    """A batch of prompts to be answered and judged with a setting, under an attack."""

    knobs: Knobs
    attack: str
    part: Sequence[Prompt]


@dataclass(frozen=True)
class _Subject:
    """The bias that is tuned, with its prompts, and what its answers and verdicts rest on."""

    used: Used
    judge: Record
    bias: SafetyBias
    asked: Mapping[str, Sequence[Prompt]]

    def tasks(self, knobs: Knobs, batch_size: int) -> list[_Task]:
        """All batches of a setting."""
        return [
            _Task(knobs, attack, prompts[start : start + batch_size])
            for attack, prompts in self.asked.items()
            for start in range(0, len(prompts), batch_size)
        ]


@dataclass(frozen=True)
class _Opened:
    """A subject with the engine that answers and the judge."""

    subject: _Subject
    engine: Engine
    judge: Judge
    sampling: Sampling
    end_of_thinking: str

    def judged(self, task: _Task) -> list[Judged]:
        under = _under(self.engine.at(task.knobs), task.attack)
        judged = judge_answers(under, self.judge, task.part, self.sampling, self.end_of_thinking)
        return [
            Judged(p.id, p.kind, p.category, judgement)
            for p, judgement in zip(task.part, judged, strict=True)
        ]


_Run = Callable[[Iterable[_Task]], Iterator[list[Judged]]]
"""Answers batch after batch, in their order."""


@contextmanager
def _opened(
    cluster: Cluster | None, build: Callable[[], _Opened]
) -> Iterator[tuple[_Subject, _Run]]:
    """What is tuned, and what answers: this process, or the workers of a cluster."""
    if cluster is None:
        opened = build()
        yield opened.subject, partial(map, opened.judged)
        return
    with cluster.open(build) as workers:
        [subject] = workers.map(_subject, [None])
        yield subject, partial(workers.map, _Opened.judged)


def _subject(opened: _Opened, _: None) -> _Subject:
    return opened.subject


@dataclass
class _Count:
    """Progress over answers to all settings; a repeated setting counts again."""

    tell: StageProgress | None
    prompts: int
    trials: int
    done: int = 0

    def over(self, tasks: Sequence[_Task], run: _Run) -> dict[str, list[Judged]]:
        """The judged answers of all batches, by attack."""
        found: dict[str, list[Judged]] = {task.attack: [] for task in tasks}
        done = 0
        for task, judged in zip(tasks, run(tasks), strict=True):
            found[task.attack] += judged
            done += len(judged)
            self.answers(done)
        return found

    def answers(self, to_this: int) -> None:
        if self.tell:
            self.tell("tune, answers", self.done + to_this, self.trials * self.prompts)

    def trial(self, done: int, _trials: int) -> None:
        self.done = done * self.prompts
        self.answers(0)


def tune(
    model: Name,
    bias: Name,
    prompts: Name,
    out: str | Path,
    *,
    search: Search = Search(),
    judging: Judging = Judging(),
    resume: bool = False,
    progress: StageProgress | None = None,
) -> Tuned:
    """Search strength, steps and per-step decay under a floor of safety in every category.

    Of a bias with a condition, low, high, width and threshold are searched in place of strength,
    steps and decay; one strength for all prompts stays among the settings. Of one with a slope,
    whether it helps is searched too.

    Args:
        model: The aligned model: a folder, a hub id or a shipped name; for llama.cpp a GGUF file.
        bias: Folder or hub id of its safety bias.
        prompts: Validation prompts, as for `tsdi.generate`; those that a condition was fitted to
            are left out.
        out: Folder for the tuned bias, which recommends the strength that was found, or has the
            condition that was; and the slope, where it was chosen.
        search: Settings of the search: floors, trials and evidence.
        judging: Options of judging, without an audit or labels; the workers of its cluster answer
            too, and its trials are those of one process.
        resume: Go on with a killed search.
        progress: Called with the number of answers, after each batch and each trial.

    Raises:
        UsageError: If prompts, floors, attacks, trials or judge cannot be right, or Optuna is not
            installed.
        RunExistsError: If the folder is in use, by a process or by another search.
        TsdiError: If anything cannot be loaded or does not fit.
    """
    if judging.audit is not None or judging.labels:
        raise UsageError("Tuning corrects no rates by an audit or labels.", "Leave them out.")
    model, bias, out = as_name("model", model), as_name("bias", bias), Path(out)
    search = replace(search, max_new_tokens=longest_answer(model, search.max_new_tokens))
    with working_in(out):
        _check_folder(out, resume)
        asked = load_prompts(prompts, 0, judging.kind).prompts
        check_kinds(asked)
        asked = distinct(asked)
        check_prompts(asked, search)
        check_installed()
        check_storage(search)  # before weights are loaded, and the search is noted
        build = partial(_open, model, bias, asked, search, replace(judging, cluster=None))
        with _opened(judging.cluster, build) as (subject, run):
            count = _Count(progress, sum(map(len, subject.asked.values())), search.trials)
            decides = {
                "model": model,
                "fingerprint": fingerprint(model),
                **_of_prompts(str(prompts), subject, len(asked)),
                **_of_answers(subject, search, judging.end_of_thinking),
            }
            _check_search(out, decides)
            found = _searched(
                lambda knobs: count.over(subject.tasks(knobs, search.batch_size), run),
                Space.around(subject.bias),
                search,
                out,
                count,
                decides,
            )
        tuned = _tuned(subject.bias, found, decides)
        tuned.save_pretrained(out)
        return Tuned(tuned, found, decides["judge"])


def _searched(
    answers: Answers,
    space: Space,
    search: Search,
    out: Path,
    count: "_Count",
    decides: dict[str, Any],
) -> Tuning:
    """Search alone, or with whoever shares the storage and searches the same."""
    if search.storage is None:
        return search_knobs(answers, space, search, out / TRIALS, count.trial)
    same = {key: _unnamed(value) for key, value in decides.items() if key != "model"}
    name = f"tsdi {json_sha256(as_read_back(same))[:16]}"
    return search_together(answers, space, search, name, count.trial)


def _open(
    model: str, bias: str, asked: Sequence[Prompt], search: Search, judging: Judging
) -> _Opened:
    """Load model, bias and judge, cheap checks first."""
    name = judging.judge or default_judge(prompt.messages[-1]["content"] for prompt in asked)
    check_judge(name, judging.options)
    choice = search.engine
    choice.check()
    if choice.name == "openai":
        raise UsageError(
            "A server has its bias itself: no setting of it can be tried here.",
            "Take --engine vllm, which runs the same model.",
        )
    tokenizer = load_tokenizer(tokenizer_of(model, bias, choice), search.options)
    vector = SafetyBias.from_pretrained(bias, tokenizer=tokenizer)
    check_trials(search.trials, Space.around(vector))
    check_known(asked, tokenizer)
    if choice.name != "llama-cpp":
        vector.note_other(model)
    by = by_attack(_unseen(vector, tokenizer, asked, search), search.attacks)
    check_words(by, tokenizer)
    rule = tokenizer, vector, 1.0, vector.info.chat_format
    engine, used = load_engine(model, bias, search.options, choice, rule)
    for attack, prompts in by.items():
        check_fits(_under(engine, attack), prompts, Sampling(search.max_new_tokens))
    judge = load_judge(name, judging.options)
    used = {key: value for key, value in used.items() if key == "dtype"} | choice.describe()
    end = judging.end_of_thinking or vector.info.anchor
    subject = _Subject(used, judge.describe(), vector, by)
    return _Opened(subject, engine, judge, Sampling(search.max_new_tokens), end)


def _under(engine: Engine, attack: str) -> Engine:
    """The engine with an attack on its requests; "" is none."""
    return PromptedEngine(engine, find_attack(attack).transform) if attack else engine


def _unseen(
    bias: SafetyBias, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Prompt], search: Search
) -> Sequence[Prompt]:
    """The prompts to which the bias, its condition and its slope were not fitted.

    On those of its fit it looks better than it is. They are left out, not refused: one file with
    labels often serves both, and the floors say what is left.
    """
    if not bias.info.stand_in and bias.condition is None and bias.slope is None:
        return asked
    inside = among_fitted(bias, tokenizer, [prompt.messages for prompt in asked])
    left = [prompt for prompt, fitted in zip(asked, inside, strict=True) if not fitted]
    fitted = len(asked) - len(left)
    said = f"{fitted} of {len(asked)} prompts are of those that it was fitted to"
    if not left:
        raise UsageError(
            f"{said}, on which it looks better than it is.",
            "Fit it to one half of the prompts, tune it on the other.",
        )
    if fitted:
        try:
            check_prompts(left, search)
        except UsageError as error:
            raise UsageError(f"{said}. Of the others: {error.problem}", error.remedy) from None
        _LOG.info("%s; they are left out.", said)
    return left


def _of_prompts(name: str, subject: _Subject, given: int) -> dict[str, Any]:
    """The search's provenance from bias and prompts, with the number of prompts left out."""
    bias, prompts = subject.bias, subject.asked[PLAIN]
    fitted = bias.info.stand_in or bias.condition is not None or bias.slope is not None
    return {
        "bias_sha256": bias.sha256,
        **({"condition_sha256": bias.condition.sha256} if bias.condition else {}),
        **({"left_out": given - len(prompts)} if fitted else {}),
        "prompts": {"name": name, "count": len(prompts), "sha256": prompts_sha256(prompts)},
        "attacks": [attack for attack in subject.asked if attack],
    }


def _of_answers(subject: _Subject, search: Search, end_of_thinking: str) -> dict[str, Any]:
    return {
        "judge": subject.judge,
        **({"end_of_thinking": end_of_thinking} if end_of_thinking else {}),
        "max_new_tokens": search.max_new_tokens,
        "batch_size": search.batch_size,
        **subject.used,
        "seed": search.seed,
    }


def _tuned(bias: SafetyBias, found: Tuning, decides: dict[str, Any]) -> SafetyBias:
    """The bias with the chosen setting and the evidence for it."""
    versions = {name: version(name) for name in ("tsdi", "torch", "transformers", "optuna")}
    chosen = found.chosen.knobs
    evidence = {**found.evidence(), **decides, "versions": versions}
    return chosen.of(bias).with_tuning(chosen.strength, evidence)


def _check_folder(out: Path, resume: bool) -> None:
    if (out / CONFIG_FILE).exists():
        raise RunExistsError(f"{out} already holds a bias.", "Give another --out.")
    check_goes_on(out, resume, "search", [out / TRIALS, out / SEARCH])


def _unnamed(described: Any) -> Any:
    """What is described by its hash, without its name: prompts, which may have moved."""
    if isinstance(described, dict) and "sha256" in described:
        return {key: value for key, value in described.items() if key != "name"}
    return described


def _check_search(out: Path, decides: dict[str, Any]) -> None:
    """Record the search in the folder, or refuse one whose trials are of another search."""
    note, wanted = out / SEARCH, as_read_back(decides)
    if not note.exists():
        write_json(note, decides)
    known = read_object(note, "Restore it, or give another --out.")
    for key in dict.fromkeys([*wanted, *known]):
        if key == "model" and known.get("fingerprint") == wanted["fingerprint"]:
            continue  # by another name, or in another place
        one, other = ({key: _unnamed(some[key])} if key in some else {} for some in (known, wanted))
        if not alike(one, other):
            what = f"other {key}" if key in ("prompts", "attacks") else f"another {key}"
            raise RunExistsError(f"{out} is of a search with {what}.", "Give another --out.")
    if "fingerprint" not in known:
        _LOG.info("%s does not say which weights were tried: an earlier tsdi did not look.", note)
