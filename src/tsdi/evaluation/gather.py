"""``gather``: shards of one run or one estimate, joined into a folder like that of a single one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsdi.arguments import as_list
from tsdi.errors import FormatError, MismatchError, RunExistsError, UsageError
from tsdi.evaluation.evaluate import write_metrics
from tsdi.evaluation.verdicts import describe_answers, read_place
from tsdi.files import is_unused, write_folder, write_json
from tsdi.runs.judge_folders import places
from tsdi.runs.records import Record, append_records, read_records
from tsdi.runs.responses import read_run
from tsdi.runs.shard import SHARD, Part, described_shard, in_order
from tsdi.runs.stage import ANSWERS, VERDICTS
from tsdi.runs.sums import SHARD_FILE, gather_sums, read_shard
from tsdi.runs.verdicts import made_by


@dataclass(frozen=True)
class Gathered:
    """A folder that was joined from shards.

    Attributes:
        what: "estimate" or "run".
        shards: How many shards it is of.
        prompts: How many prompts it has.
        pair: Of an estimate, the names of the aligned model and of the reference.
        judges: Of a run, the judges whose verdicts it has.
    """

    what: str
    shards: int
    prompts: int
    pair: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()


def gather(shards: Sequence[str | Path], out: str | Path) -> Gathered:
    """Join all shards of a run, or of an estimate, in one folder.

    A run is then what a single ``tsdi.evaluate`` or ``tsdi.generate`` of all prompts would have
    written; an estimate goes on with ``tsdi.estimate(..., resume=True)``, which runs no random
    prompt again. No model is loaded.

    Args:
        shards: The folders of all shards, in any order.
        out: A new folder.

    Raises:
        UsageError: If a folder is no shard, or one is missing, there twice, or unfinished.
        MismatchError: If shards were made with different settings, or divide differently.
        RunExistsError: If the folder is in use.
        FormatError: If a file is damaged.
    """
    folders, out = [Path(shard) for shard in as_list("shards", shards)], Path(out)
    if not folders:
        raise UsageError("There are no shards.", "Name the folders of all of them.")
    if not is_unused(out):
        raise RunExistsError(f"{out} is there already.", "Give another --out.")
    kinds = {folder: _kind(folder) for folder in folders}
    if len(set(kinds.values())) > 1:
        one, other = (next(f for f in folders if kinds[f] == kind) for kind in ("run", "estimate"))
        raise MismatchError(f"{one} is of a run, {other} of an estimate.", "Gather one of them.")
    with write_folder(out) as unfinished:
        if kinds[folders[0]] == "estimate":
            made = gather_sums([read_shard(folder) for folder in folders], unfinished)
            pair = made["aligned"], made["reference"]
            return Gathered("estimate", len(folders), made["prompts"], pair)
        ordered = in_order([_read_part(folder) for folder in folders])
        prompts = _join_answers(ordered, unfinished)
        return Gathered("run", len(folders), prompts, judges=_join_verdicts(ordered, unfinished))


def _kind(folder: Path) -> str:
    if (folder / SHARD_FILE).exists():
        return "estimate"
    if (folder / ANSWERS.description).exists():
        return "run"
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.", "Name the folder of a shard.")
    raise UsageError(f"{folder} holds no shard.", "Make it with --shard, as 2/8.")


def _read_part(folder: Path) -> Part:
    """The shard of a run, with the description of the whole that it is of."""
    file, run = folder / ANSWERS.description, read_run(folder)
    provenance, prompts = run.get("provenance"), run.get("prompts")
    if not isinstance(provenance, dict) or SHARD not in provenance:
        raise UsageError(f"{folder} is a whole run, no shard.", "Leave it out.")
    if not isinstance(prompts, dict):
        raise FormatError(f"{file} is damaged: `prompts` is none.", "Make the shard again.")
    shard = described_shard(provenance[SHARD], file)
    whole = {key: value for key, value in provenance.items() if key != SHARD}
    of_all = {"prompts": provenance[SHARD].get("prompts"), "provenance": whole}
    return Part(folder, shard, {key: of_all.get(key, value) for key, value in run.items()})


def _join_answers(ordered: Sequence[Part], out: Path) -> int:
    """Write the answers of all shards, one shard in memory at a time; returns their number."""
    seen: dict[str, Path] = {}
    for part in ordered:
        records = read_records(part.folder / ANSWERS.records)
        wanted = read_run(part.folder)["prompts"].get("count")
        if len(records) != wanted:
            raise UsageError(
                f"{part.folder}, shard {part.shard}, is not finished: it holds {len(records)}"
                f" answers of {wanted}.",
                "Let it go on with --resume first.",
            )
        for record in records:
            if record["id"] in seen:
                raise MismatchError(
                    f"{seen[record['id']]} and {part.folder} both answer {record['id']!r}.",
                    "Make one of them again.",
                )
        seen |= {record["id"]: part.folder for record in records}
        append_records(out / ANSWERS.records, records)
    whole = ordered[0].made
    if whole["prompts"].get("count") != len(seen):
        raise MismatchError(
            f"The shards hold {len(seen)} answers, the whole has"
            f" {whole['prompts'].get('count')} prompts.",
            "Make the shards again.",
        )
    write_json(out / ANSWERS.description, whole)
    return len(seen)


def _join_verdicts(ordered: Sequence[Part], out: Path) -> tuple[str, ...]:
    """Write the verdicts of all judges that judged every shard, and count them."""
    judged = [
        {place.folder.relative_to(part.folder): place for place in places(part.folder)}
        for part in ordered
    ]
    for part, there in zip(ordered, judged, strict=True):
        if there.keys() != judged[0].keys():
            raise UsageError(
                f"{part.folder} and {ordered[0].folder} were not judged by the same judges.",
                "Judge both: tsdi evaluate SHARD --judge NAME",
            )
    names = []
    for where in judged[0]:
        (out / where).mkdir(parents=True, exist_ok=True)
        description = _judge_of_all(ordered, where, out)
        write_json(out / where / VERDICTS.description, description)
        own = made_by(description)
        for part in ordered:
            records = [{**record, **own} for record in _verdicts(part, where)]
            append_records(out / where / VERDICTS.records, records)
        write_metrics(out, out / where, description, read_place(out, out / where))
        names.append(str(description["judge"]["name"]))
    return tuple(names)


def _judge_of_all(ordered: Sequence[Part], where: Path, out: Path) -> Record:
    """The description of the judge of all shards, with the answers of the whole."""
    found = [VERDICTS.read_description(part.folder / where) for part in ordered]
    alike = [
        Part(part.folder / where, part.shard, {k: v for k, v in one.items() if k != "responses"})
        for part, one in zip(ordered, found, strict=True)
    ]
    in_order(alike)
    count = ordered[0].made["prompts"]["count"]
    answers: dict[str, Any] = {"responses": describe_answers(out, count)}
    return {key: answers.get(key, value) for key, value in found[0].items()}


def _verdicts(part: Part, where: Path) -> list[Record]:
    """The verdicts of one judge on a shard, checked to be of its answers, and all of them."""
    place = part.folder / where
    read_place(part.folder, place)
    return read_records(place / VERDICTS.records)
