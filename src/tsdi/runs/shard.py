"""A shard: one of several equal parts of a run or an estimate, by number, "2/8"."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tsdi.errors import FormatError, MismatchError, UsageError
from tsdi.runs.records import Record
from tsdi.runs.stage import flatten

SHARD = "shard"
"""Key of a shard in the description of a part."""


@dataclass(frozen=True)
class Shard:
    """Part `number` of `of`, counted from 1.

    Parts of a whole are disjoint, lie one behind the other, and differ by one piece at most.
    """

    number: int
    of: int

    @classmethod
    def read(cls, text: str) -> "Shard":
        """The shard of a text such as "2/8".

        Raises:
            UsageError: If there is no such part.
        """
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        number, of = map(int, match.groups()) if match else (0, 0)
        if not 1 <= number <= of:
            raise UsageError(f"There is no shard {text!r}.", "Write 1/8 to 8/8 for eight shards.")
        return cls(number, of)

    def part(self, items: int, piece: int = 1) -> tuple[int, int]:
        """First item of the shard, and one past its last, where pieces are never divided.

        Args:
            items: Number of items of the whole.
            piece: Items that belong together, such as a batch; the last piece may be smaller.

        Raises:
            UsageError: If there are fewer pieces than shards.
        """
        pieces = -(-items // piece)
        if pieces < self.of:
            batches = f" in batches of {piece}" if piece > 1 else ""
            raise UsageError(
                f"{items} prompts{batches} make {pieces} shards at most, not {self.of}.",
                "Take fewer shards" + (", or a smaller --batch-size." if piece > 1 else "."),
            )
        start, stop = (n * pieces // self.of * piece for n in (self.number - 1, self.number))
        return start, min(stop, items)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def describe(self) -> dict[str, Any]:
        """The shard as JSON."""
        return {"number": self.number, "of": self.of}


class Part(NamedTuple):
    """A folder that holds a shard, and what it says of its making, the shard's number left out."""

    folder: Path
    shard: Shard
    made: Record


def described_shard(value: object, file: Path) -> Shard:
    """The shard that `Shard.describe` wrote into a file.

    Raises:
        FormatError: If it is none.
    """
    if isinstance(value, dict):
        try:
            return Shard.read(f"{value.get('number')}/{value.get('of')}")
        except UsageError:
            pass
    raise FormatError(f"{file} is damaged: `shard` is none.", "Make the shard again.")


def in_order(parts: Sequence[Part]) -> list[Part]:
    """The parts of one whole, in their order.

    Raises:
        MismatchError: If they were made with different settings, or divide it differently.
        UsageError: If one is missing, or there twice.
    """
    found: dict[int, Part] = {}
    first = parts[0]
    for part in parts:
        if part.shard.of != first.shard.of:
            raise MismatchError(
                f"{part.folder} is shard {part.shard}, {first.folder} is shard {first.shard}.",
                "Gather shards of one division.",
            )
        _check_alike(first, part)
        if part.shard.number in found:
            other = found[part.shard.number].folder
            raise UsageError(
                f"{other} and {part.folder} are both shard {part.shard}.", "Leave one out."
            )
        found[part.shard.number] = part
    of = first.shard.of
    missing = [str(Shard(number, of)) for number in range(1, of + 1) if number not in found]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise UsageError(
            f"Shard{'s' * (are == 'are')} {', '.join(missing)} {are} missing.",
            "Name the folders of all shards.",
        )
    return [found[number] for number in sorted(found)]


def _check_alike(one: Part, other: Part) -> None:
    mine, theirs = flatten(one.made), flatten(other.made)
    keys = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
    if keys:
        said = "; ".join(f"{key} is {mine.get(key)!r} and {theirs.get(key)!r}" for key in keys[:4])
        raise MismatchError(
            f"{one.folder} and {other.folder} are no parts of one whole: {said}.",
            "Gather shards that were made with the same settings.",
        )
