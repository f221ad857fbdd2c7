"""Sums over random prompts for both models of an estimate, in parts that are merged later.

A part's folder holds the sums of each model (`tsdi.bias.accumulate`) and, of a shard, `shard.json`,
which says what they are of. Gathered, the sums are those of an estimate that was killed at its very
end: ``tsdi.estimate`` with ``resume`` makes the bias of them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from tsdi.arguments import Name, as_name
from tsdi.bias import Estimation, SafetyBias
from tsdi.bias.accumulate import BATCHES_PER_CHECKPOINT, GroupSums, Summing, accumulate
from tsdi.bias.estimate import check_together, provenance
from tsdi.bias.mean_logits import ROLES, partial_file, partial_files
from tsdi.bias.random_prompts import check_prompts
from tsdi.errors import FormatError, MismatchError, RunExistsError, UsageError
from tsdi.files import check_goes_on, json_or_none, read_object, working_in, write_json
from tsdi.models.compatibility import check_tied_adapter, tokenizer_size
from tsdi.models.fingerprint import fingerprint
from tsdi.models.load import load_tokenizer
from tsdi.models.sides import load_pair
from tsdi.runs.loading import Loading
from tsdi.runs.pair import check_order, pair_tokenizer
from tsdi.runs.records import Record
from tsdi.runs.shard import Part, Shard, described_shard, in_order
from tsdi.runs.stage import StageProgress, as_read_back, counting
from tsdi.runs.vllm_sums import VllmPair

SHARD_FILE = "shard.json"
Task = tuple[str, int, int]
"""What is summed at a time: "aligned" or "reference", first prompt, one past the last."""


@dataclass(frozen=True)
class EstimateShard:
    """The sums of a shard that are in its folder.

    Attributes:
        shard: Which of how many.
        prompts: First random prompt, and one past the last.
    """

    shard: Shard
    prompts: tuple[int, int]


def estimate_shard(
    aligned: Name,
    reference: Name,
    out: str | Path,
    shard: str,
    settings: Estimation = Estimation(),
    *,
    loading: Loading = Loading(),
    resume: bool = False,
    progress: StageProgress | None = None,
) -> EstimateShard:
    """Sum one of several equal parts of an estimate's random prompts, for ``tsdi.gather``.

    Args:
        aligned: The model after the safety step, as for ``tsdi.estimate``.
        reference: The model before it.
        out: Folder for the shard's sums.
        shard: Which part, such as "2/8".
        settings: Settings of the whole estimate, the same for all shards.
        loading: Options of loading and running the models.
        resume: Go on with a killed run.
        progress: Called after each part of the prompts that a model has done.

    Raises:
        UsageError: If there is no such shard, or settings make no sense.
        RunExistsError: If the folder is in use.
        TsdiError: If anything cannot be loaded, or the models do not fit together.
    """
    pair = as_name("aligned", aligned), as_name("reference", reference)
    out, which = Path(out), Shard.read(shard)
    _check_to_the_end(settings)
    bounds = which.part(settings.prompts)
    with working_in(out):
        check_goes_on(out, resume, "shard", [*partial_files(out), out / SHARD_FILE])
        described = {"shard": which.describe(), "made": _describe(*pair, settings, loading)}
        _check_same(out / SHARD_FILE, as_read_back(described))
        sum_pair(pair, settings, out, bounds, loading, progress)
    return EstimateShard(which, bounds)


def _describe(aligned: str, reference: str, settings: Estimation, loading: Loading) -> Record:
    """What decides the sums of all shards of an estimate."""
    check_order(aligned, reference)
    tokenizer = load_tokenizer(aligned, loading.options)
    return {
        "aligned": aligned,
        "aligned_fingerprint": fingerprint(aligned),
        "reference": reference,
        "reference_fingerprint": fingerprint(reference),
        "dtype": loading.options.dtype,
        **loading.engine.describe(),
        "steps": settings.steps,
        **provenance(tokenizer, settings),
    }


def _check_same(file: Path, described: Record) -> None:
    """Write a shard's description, or refuse a shard that was made with something else."""
    if not file.exists():
        write_json(file, described)
    elif json_or_none(file) != described:
        raise RunExistsError(
            f"{file.parent} is another shard, or one of other settings.",
            "Use the same again, or another --out.",
        )


class PairSums:
    """Both models of an estimate, and their random prompts, of which parts are summed."""

    def __init__(
        self, aligned: str, reference: str, settings: Estimation, loading: Loading
    ) -> None:
        check_order(aligned, reference)
        tokenizer, how = pair_tokenizer(aligned, reference, loading.options, settings)
        self._batch_size, self._groups = loading.batch_size, how.groups
        sides = load_pair(aligned, reference, loading.options, one_at_a_time=loading.one_at_a_time)
        self._sides = dict(zip(ROLES, sides, strict=True))
        check_together(self._sides, tokenizer_size(tokenizer), how.target_error)
        self._prompts = {
            "aligned": how.random_prompts(tokenizer),
            "reference": replace(how, chat=how.reference_chat).random_prompts(tokenizer),
        }
        self._summing: dict[str, Summing] = {}
        self._open: tuple[str, PreTrainedModel] | None = None
        self._stack = ExitStack()

    def __call__(self, task: Task) -> GroupSums:
        """Sum a part of one model's prompts."""
        role, start, stop = task
        model, prompts = self._model(role), self._prompts[role]
        summing = self._summing[role]
        sums = accumulate(model, prompts, start, stop, summing, batch_size=self._batch_size)
        self._summing[role] = replace(summing, kind=sums.kind)
        return sums

    def _model(self, role: str) -> PreTrainedModel:
        """The model of a role; the other one is closed."""
        if self._open is None or self._open[0] != role:
            self._open = None
            self._stack.close()
            side = self._sides[role]
            model = self._stack.enter_context(side.open())
            check_tied_adapter(model)
            check_prompts(model, self._prompts[role])
            made_of = Summing(self._groups, side.name, fingerprint(side.source))
            self._summing.setdefault(role, made_of)
            self._open = role, model
        return self._open[1]


def sum_pair(
    pair: tuple[str, str],
    settings: Estimation,
    out: Path,
    bounds: tuple[int, int],
    loading: Loading,
    progress: StageProgress | None,
) -> None:
    """Sum the prompts within bounds for both models into files, going on where these end.

    Args:
        pair: Names of the aligned model and the reference.
        settings: How random prompts are made.
        out: The folder.
        bounds: First prompt, and one past the last.
        loading: Options of running the models, and the cluster, if there is one.
        progress: Called after each part.

    Raises:
        UsageError: If a target error is asked for, which needs both models at once.
        MismatchError: If files in the folder are of other prompts or models.
    """
    _check_to_the_end(settings)
    made = VllmPair if loading.engine.name == "vllm" else PairSums
    build: Callable[[], PairSums | VllmPair] = partial(
        made, *pair, settings, replace(loading, cluster=None)
    )
    size = _size(loading, bounds)
    if loading.cluster is None:
        _fill(partial(map, build()), out, bounds, size, progress)
        return
    with loading.cluster.open(build) as workers:
        _fill(partial(workers.map, _add), out, bounds, size, progress)


def _check_to_the_end(settings: Estimation) -> None:
    if settings.target_error is not None:
        raise UsageError(
            "What is summed in parts cannot stop early.", "Leave out the target error."
        )


def _add(pair: "PairSums | VllmPair", task: Task) -> GroupSums:
    return pair(task)


def _size(loading: Loading, bounds: tuple[int, int]) -> int:
    """Prompts that are summed at a time: whole batches, four for each worker if that can be."""
    most = loading.batch_size * BATCHES_PER_CHECKPOINT
    if loading.cluster is None:
        return most
    even = (bounds[1] - bounds[0]) // (2 * loading.cluster.workers)
    return min(most, max(1, even // loading.batch_size) * loading.batch_size)


def _fill(
    add: Callable[[Iterable[Task]], Iterator[GroupSums]],
    out: Path,
    bounds: tuple[int, int],
    size: int,
    progress: StageProgress | None,
) -> None:
    """Add what the files in a folder lack, `size` prompts at a time."""
    start, stop = bounds
    told = counting(progress, "estimate, both models", 2 * (stop - start))
    known = {role: _read(partial_file(out, role), bounds) for role in ROLES}
    tasks: list[Task] = []
    for role, sums in known.items():
        done = sums.ranges[0][1] if sums else start
        told(done - start)
        tasks += [(role, first, min(first + size, stop)) for first in range(done, stop, size)]
    for (role, first, end), more in zip(tasks, add(tasks), strict=True):
        before = known[role]
        sums = known[role] = before.merge(more) if before else more
        sums.save(partial_file(out, role))
        told(end - first)


def estimate_by_vllm(
    aligned: str,
    reference: str,
    out: Path,
    settings: Estimation,
    loading: Loading,
    progress: StageProgress | None,
) -> SafetyBias:
    """The bias by vLLM's logits; the sums that are in the folder are gone on with, and stay there.

    Raises:
        MismatchError: If they were made with other settings or weights.
        TsdiError: If anything cannot be loaded, or the models do not fit together.
    """
    pair = VllmPair(aligned, reference, settings, loading)
    sum_pair((aligned, reference), settings, out, (0, settings.prompts), loading, progress)
    return pair.bias(out)


def _read(file: Path, bounds: tuple[int, int]) -> GroupSums | None:
    """The sums that a killed run left, which begin where the bounds do."""
    if not file.exists():
        return None
    sums = GroupSums.load(file)
    if len(sums.ranges) > 1 or sums.ranges[0][0] != bounds[0] or sums.ranges[0][1] > bounds[1]:
        raise MismatchError(f"{file} has other prompts.", "Give another --out.")
    return sums


def read_shard(folder: Path) -> Part:
    """What a shard's folder says of itself.

    Raises:
        FormatError: If its file is damaged.
    """
    file = folder / SHARD_FILE
    found = read_object(file, "Make the shard again.")
    made = found.get("made")
    if not isinstance(made, dict) or type(made.get("prompts")) is not int:
        raise FormatError(f"{file} is damaged.", "Make the shard again.")
    return Part(folder, described_shard(found.get("shard"), file), made)


def gather_sums(parts: Sequence[Part], out: Path) -> dict[str, Any]:
    """Merge the sums of all shards of an estimate into a folder; returns what they are of.

    Raises:
        MismatchError: If they are not of one estimate.
        UsageError: If a shard is missing, there twice, or unfinished.
        FormatError: If a file is damaged.
    """
    ordered = in_order(parts)
    merged = {role: _merged(ordered, role) for role in ROLES}
    for role, sums in merged.items():
        sums.save(partial_file(out, role))
    return ordered[0].made


def _merged(ordered: Sequence[Part], role: str) -> GroupSums:
    total: GroupSums | None = None
    for part in ordered:
        bounds = part.shard.part(part.made["prompts"])
        file = partial_file(part.folder, role)
        sums = GroupSums.load(file) if file.exists() else None
        if sums is None or sums.ranges != (bounds,):
            there = "nothing" if sums is None else f"{sums.prompts} of {bounds[1] - bounds[0]}"
            raise UsageError(
                f"{part.folder}, shard {part.shard}, is not finished: of the {role} model it has"
                f" {there}.",
                "Let it go on with --resume first.",
            )
        total = total.merge(sums) if total else sums
    assert total is not None
    return total
