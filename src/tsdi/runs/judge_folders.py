"""Folders of the verdicts of a run, one for each judge.

The first judge's lie in the run folder itself, as an only judge's do. Each further judge has a
folder of its own in `judges`, with the same three files and a name like `qwen3guard-3fa9c1d2`. So a
second judge leaves the first one's verdicts as they are, and each can be killed and go on by
itself.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from tsdi.errors import UsageError
from tsdi.files import to_json, unwritable
from tsdi.models.fingerprint import alike
from tsdi.runs.records import Record
from tsdi.runs.stage import VERDICTS

JUDGES = "judges"


@dataclass(frozen=True)
class Place:
    """The folder with the verdicts of one judge, and the judge's description.

    The folder is the run folder, or one in it.
    """

    folder: Path
    judge: Record

    @property
    def names(self) -> tuple[str, ...]:
        """Names by which a user may choose the judge: bare, by folder, and with its model."""
        name, model = self.judge.get("name"), self.judge.get("model")
        return (str(name), label(self.judge), *([f"{name}={model}"] if model else []))


def label(judge: Record) -> str:
    """The folder name of a judge: its name, and a hash of its other settings."""
    name = re.sub(r"[^A-Za-z0-9.+_-]", "_", str(judge.get("name")))
    deciding = {key: value for key, value in judge.items() if key != "fingerprint"}
    return f"{name}-{hashlib.sha256(to_json(deciding)).hexdigest()[:8]}"


def places(run: Path) -> list[Place]:
    """The places of all judges that have verdicts of a run, the first judge first.

    Raises:
        FormatError: If a file that says who judged is missing or damaged.
    """
    folders = [run, *sorted(path for path in (run / JUDGES).glob("*") if path.is_dir())]
    there = [folder for folder in folders if (folder / VERDICTS.records).exists()]
    return [Place(folder, _judge(folder)) for folder in there]


def place_for(run: Path, judge: Record, resume: bool) -> Path:
    """The folder for a judge's verdicts; a further judge's is made if need be.

    With `resume` verdicts of a judge of the same name are meant, even if its settings differ, which
    opening them says.

    Raises:
        FormatError: If a file that says who judged is missing or damaged.
        TsdiError: If the folder cannot be made.
    """
    there = places(run)
    for place in there:
        if alike(place.judge, judge):
            return place.folder
    for place in there:
        if resume and place.judge.get("name") == judge.get("name"):
            return place.folder
    if not any(place.folder == run for place in there):
        return run
    folder = run / JUDGES / label(judge)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    return folder


def find_place(run: Path, judge: str = "") -> Path:
    """The folder with the verdicts of a judge.

    The judge is named by one of its `Place.names`, or by "" if it is the only one.

    Raises:
        UsageError: If there are no verdicts, or not of that judge, or of several.
    """
    there = places(run)
    if not there:
        raise UsageError(f"{run} holds no verdicts.", f"Judge it first: tsdi evaluate {run}")
    chosen = [place for place in there if not judge or judge in place.names]
    if len(chosen) == 1:
        return chosen[0].folder
    if not chosen:
        raise UsageError(
            f"{run} was not judged by {judge}, but by {_listed(there)}.",
            f"Judge it: tsdi evaluate {run} --judge {judge}",
        )
    raise UsageError(
        f"{run} was judged by {_listed(chosen)}.", "Say whose verdicts are meant: --judge NAME."
    )


def _listed(there: list[Place]) -> str:
    """The judges' names, in a line; folder names where a name stands for several."""
    names = [place.names[0] for place in there]
    shown = [
        name if names.count(name) == 1 else place.names[1]
        for name, place in zip(names, there, strict=True)
    ]
    return " and ".join(shown)


def _judge(folder: Path) -> Record:
    judge = VERDICTS.read_description(folder).get("judge")
    return judge if isinstance(judge, dict) else {}
