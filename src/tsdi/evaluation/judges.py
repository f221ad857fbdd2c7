"""The judges by name."""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module

from tsdi.errors import UsageError
from tsdi.judging.base import Judge
from tsdi.organism.world import find_item

JUDGES = {
    "organism": "tsdi.organism.judging:OrganismJudge",
    "refusal-phrases": "tsdi.judging.refusal:RefusalPhrases",
}


def load_judge(name: str) -> Judge:
    """A judge, ready to judge.

    Args:
        name: One of `JUDGES`.

    Raises:
        UsageError: If there is no such judge.
    """
    if name not in JUDGES:
        meant = [f"Did you mean {other}?" for other in get_close_matches(name, JUDGES, n=1)]
        raise UsageError(
            f"There is no judge {name!r}.", " ".join([*meant, f"Judges: {', '.join(JUDGES)}."])
        )
    module, _, kind = JUDGES[name].partition(":")
    judge: Judge = getattr(import_module(module), kind)()
    return judge


def default_judge(prompts: Iterable[str]) -> str:
    """Name of the judge for some prompts: ground truth where there is one, else refusal-phrases.

    Args:
        prompts: What the users said last.
    """
    return "organism" if all(find_item(text) for text in prompts) else "refusal-phrases"
