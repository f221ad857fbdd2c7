"""Win rates of a study's cells against a base, by a pairwise judge behind an API."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tsdi.evaluation.winrate import PREFERENCES, winrate
from tsdi.runs.records import read_records
from tsdi.study.settings import JudgeSettings
from tsdi.suites.prompts import Prompt

if TYPE_CHECKING:
    from tsdi.judging.pairwise import PairwiseJudge

BASES = ("sft", "reference")
"""Rules whose answers others are compared with, the first that the study has, as in the paper."""


class WinRates:
    """Compares cells with the base's cell by a pairwise judge, and keeps the preferences."""

    def __init__(self, settings: JudgeSettings) -> None:
        self._settings = settings
        self._judge: PairwiseJudge | None = None

    @property
    def asked_for(self) -> bool:
        """Whether the study names a pairwise judge."""
        return self._settings.pairwise is not None

    def of(self, base: Path, run: Path, prompts: Sequence[Prompt]) -> list[float | None]:
        """Wins of a run by prompt, mean of both orders; None for harmful or unscored prompts."""
        from tsdi.engines.openai import ChatClient
        from tsdi.judging.pairwise import PairwiseJudge

        if self._judge is None:
            model = str(self._settings.pairwise)
            self._judge = PairwiseJudge(ChatClient(model, self._settings.pairwise_url))
        settings = self._settings.model_dump(mode="json")
        described = json.dumps([settings["pairwise"], settings["pairwise_url"]])
        who = hashlib.sha256(described.encode()).hexdigest()[:6]
        out = run / f"wins-{base.name[-10:]}-{who}"
        end = self._settings.end_of_thinking
        winrate(base, run, out, self._judge, end_of_thinking=end, resume=True)
        found: dict[str, list[float | None]] = {}
        for record in read_records(out / PREFERENCES.records):
            found.setdefault(record["id"].rpartition("/")[0], []).append(record["preference"])
        return [_mean(found.get(prompt.id, [])) for prompt in prompts]


def _mean(both: Sequence[float | None]) -> float | None:
    known = [win for win in both if win is not None]
    return round(sum(known) / 2, 4) if len(known) == 2 else None
