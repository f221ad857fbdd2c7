"""Inspect: tasks over any prompts that tsdi knows, scored by any of its judges."""

from collections.abc import Callable
from dataclasses import dataclass

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import Scorer
from inspect_ai.solver import generate

from tsdi.harness.inspect_chat import from_message, shown_in_one_line
from tsdi.harness.inspect_scorers import FIGURES, SCORERS, shared_judge, verdict
from tsdi.judging.registry import check_judge, default_judge
from tsdi.suites.load import load_prompts
from tsdi.suites.prompts import Prompt, check_kinds
from tsdi.suites.table import SUITES


@dataclass(frozen=True)
class _Judging:
    """Arguments of a task that choose its judge."""

    judge: str | None
    judge_url: str | None
    judge_labels: str | None
    end_of_thinking: str


@task
def prompts(
    source: str,
    judge: str | None = None,
    judge_url: str | None = None,
    judge_labels: str | None = None,
    end_of_thinking: str = "",
    seed: int = 0,
) -> Task:
    """A task of any prompts, named as for `tsdi evaluate --prompts`.

    Args:
        source: A prompt file, SUITE:FILE, hub:ORG/NAME, organism:test ... With columns and kind as
            in "mine.csv:prompt=Goal,kind=harmful".
        judge: A judge, or two: HARMFUL+HARMLESS; by default `organism` where it fits, else
            `refusal-phrases`.
        judge_url: Base URL of a judge's API.
        judge_labels: Verdicts of a classifier's labels.
        end_of_thinking: As for `tsdi evaluate --end-of-thinking`.
        seed: Decides which requests of the organism's world.
    """
    judging = _Judging(judge, judge_url, judge_labels, end_of_thinking)
    return _task(source, judging, seed)


def _suite(name: str) -> Callable[..., Task]:
    @task(name=name)
    def suite(
        data: str | None = None,
        judge: str | None = None,
        judge_url: str | None = None,
        judge_labels: str | None = None,
        end_of_thinking: str = "",
    ) -> Task:
        """A task of a suite from its origin, or from the file `data` in its original format."""
        source = f"{name}:{data}" if data else name
        return _task(source, _Judging(judge, judge_url, judge_labels, end_of_thinking))

    return suite


SUITE_TASKS = {name: _suite(name) for name in SUITES}
"""A task for every suite, `tsdi/NAME`."""


def _task(source: str, judging: _Judging, seed: int = 0) -> Task:
    with shown_in_one_line():
        loaded = load_prompts(source, seed)
        check_kinds(loaded.prompts)
        judge = judging.judge or default_judge(p.messages[-1]["content"] for p in loaded.prompts)
        check_judge(judge)
    shared = shared_judge(judge, judging.judge_url, judging.judge_labels)
    return Task(
        dataset=MemoryDataset(list(map(_sample, loaded.prompts)), name=source),
        solver=generate(),
        scorer=_scorers(judge, judging, {prompt.kind for prompt in loaded.prompts}),
        metadata={"judge": shared.description, **loaded.provenance},
    )


def _scorers(judge: str, judging: _Judging, kinds: set[str]) -> list[Scorer]:
    """Scorers for these kinds of prompts and this judge: its figures, and the verdicts."""
    shared = shared_judge(judge, judging.judge_url, judging.judge_labels)
    arguments = (judge, judging.judge_url, judging.judge_labels, judging.end_of_thinking)
    chosen = [
        name for name, figure in FIGURES.items() if figure.kinds_seen(shared.description) & kinds
    ]
    return [*(SCORERS[name](*arguments) for name in chosen), verdict(*arguments)]


def _sample(prompt: Prompt) -> Sample:
    """A prompt as Inspect's sample, with the kind and category that scorers need."""
    only = len(prompt.messages) == 1
    return Sample(
        input=prompt.messages[0]["content"] if only else list(map(from_message, prompt.messages)),
        id=prompt.id,
        metadata={"kind": prompt.kind, "category": prompt.category},
    )
