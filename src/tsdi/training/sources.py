"""The data sets of a recipe: read once, converted, split by prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tsdi.errors import UsageError
from tsdi.files import file_sha256, to_lines
from tsdi.suites.hub import load_rows, parse_hub
from tsdi.suites.prompts import Row, read_rows
from tsdi.training.cleansing import check_scored, cleanse_pairs
from tsdi.training.data import (
    Example,
    Item,
    Pair,
    Prefer,
    Rating,
    part_of,
    rename,
    to_examples,
    to_pairs,
    to_ratings,
)
from tsdi.training.recipe import Cleanse, Preference, Recipe, Sft, Source
from tsdi.training.rows import Items


@dataclass
class Data:
    """The data sets of a recipe.

    Relative paths start in the folder; a smoke test takes each source's small stand-in.
    """

    recipe: Recipe
    folder: Path
    smoke: bool
    _rows: dict[str, list[Row]] = field(default_factory=dict)

    def examples(self, names: Sequence[str], prefer: Prefer | None) -> list[Example]:
        """SFT examples of some data sets, the training part; each once, unless told otherwise."""
        found: list[Example] = []
        for name in names:
            part = self._part(name, self._examples(name, prefer), "train")
            known = set() if self._source(name).keep_duplicates else set(found)
            found += [example for example in part if example not in known]
        return found

    def rows(self, stage: Sft | Preference) -> Items:
        """The examples (SFT), pairs (DPO) or ratings (KTO) that a stage trains on."""
        if isinstance(stage, Sft):
            return self.examples(stage.data, stage.prefer)
        if stage.prefer == "data":
            return self.examples(stage.data, None)
        if stage.method == "kto":
            return self.ratings(stage.data, stage.prefer)
        return self.pairs(stage.data, stage.prefer, stage.cleanse)

    def pairs(self, names: Sequence[str], prefer: Prefer, cleansing: Cleanse | None) -> list[Pair]:
        """Preference pairs of some data sets, the training part, cleansed if asked."""
        found = []
        for name in names:
            drop = self._source(name).drop_unusable
            if cleansing is not None:
                check_scored(self._read(name), cleansing.rejected)
            found += self._part(name, to_pairs(self._read(name), prefer, drop), "train")
        if cleansing is None:
            return found
        return list(cleanse_pairs(found, cleansing.threshold, cleansing.rejected).kept)

    def ratings(self, names: Sequence[str], prefer: Prefer) -> list[Rating]:
        """KTO ratings of some data sets, the training part."""
        found = []
        for name in names:
            drop = self._source(name).drop_unusable
            found += self._part(name, to_ratings(self._read(name), prefer, drop), "train")
        return found

    def held_out(self) -> dict[str, bytes]:
        """Prompt files of the held-out parts by name, "alpaca.test.jsonl" and so on."""
        shares = self.recipe.hold_out.model_dump()
        return {
            f"{name}.{part}.jsonl": self._prompts(name, part)
            for name in self.recipe.data
            for part, share in shares.items()
            if share
        }

    def hashes(self) -> dict[str, str]:
        """The identity of each data set by name: the file's SHA-256, or the hub's commit."""
        return {name: self._identity(source) for name, source in self.recipe.data.items()}

    def _identity(self, source: Source) -> str:
        path = self._path(source)
        if path is None:
            origin = parse_hub(source.hub or "")
            return f"{origin.name}@{origin.revision}"
        try:
            return file_sha256(path)
        except OSError as error:
            raise UsageError(
                f"Cannot read {path}: {error.strerror}.",
                "Paths start from the recipe's folder, or from --data.",
            ) from None

    def _source(self, name: str) -> Source:
        return self.recipe.data[name]

    def _path(self, source: Source) -> Path | None:
        path = source.smoke if self.smoke and source.smoke else source.path
        return None if path is None else self.folder / path

    def _read(self, name: str) -> list[Row]:
        if name not in self._rows:
            source = self._source(name)
            path = self._path(source)
            rows = list(read_rows(path)) if path else load_rows(parse_hub(source.hub or ""))
            self._rows[name] = rename(rows, source.columns)[: source.limit]
        return self._rows[name]

    def _examples(self, name: str, prefer: Prefer | None) -> list[Example]:
        source = self._source(name)
        return to_examples(self._read(name), prefer, source.drop_unusable, source.keep_duplicates)

    def _part(self, name: str, items: Sequence[Item], part: str) -> list[Item]:
        longest = self._source(name).max_characters
        short = [item for item in items if longest is None or _characters(item) <= longest]
        return part_of(short, self.recipe.hold_out, part, name)

    def _prompts(self, name: str, part: str) -> bytes:
        kind = self._source(name).kind
        examples = self._part(name, self._examples(name, None), part)
        prompts = dict.fromkeys(example.prompt for example in examples)
        rows = [
            {"id": f"{name}-{number:05}", "prompt": prompt} | ({"kind": kind} if kind else {})
            for number, prompt in enumerate(prompts, start=1)
        ]
        return to_lines(rows)


def _characters(item: Example | Pair | Rating) -> int:
    answers = (item.chosen, item.rejected) if isinstance(item, Pair) else (item.answer,)
    return len(item.prompt) + max(map(len, answers))
