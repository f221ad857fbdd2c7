"""The judges by name."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import import_module

from tsdi.errors import UsageError
from tsdi.judging.base import Judge, JudgeOptions
from tsdi.organism.world import find_item

JUDGES = {
    "organism": "tsdi.organism.judging:open_organism_judge",
    "refusal-phrases": "tsdi.judging.refusal:open_refusal_phrases",
}
"""What opens each judge: "module:function", called with `JudgeOptions`."""


def load_judge(name: str, options: JudgeOptions | None = None) -> Judge:
    """A judge, ready to judge.

    Args:
        name: One of `JUDGES`.
        options: How it is opened.

    Raises:
        UsageError: If there is no such judge, or an option means nothing to it.
        TsdiError: If its weights cannot be loaded.
    """
    return _opener(name)(options or JudgeOptions())


def check_judge(name: str) -> None:
    """Raise UsageError if there is no such judge; loads nothing."""
    if name not in JUDGES:
        meant = [f"Did you mean {other}?" for other in get_close_matches(name, JUDGES, n=1)]
        raise UsageError(
            f"There is no judge {name!r}.", " ".join([*meant, f"Judges: {', '.join(JUDGES)}."])
        )


def _opener(name: str) -> Callable[[JudgeOptions], Judge]:
    check_judge(name)
    module, _, function = JUDGES[name].partition(":")
    opener: Callable[[JudgeOptions], Judge] = getattr(import_module(module), function)
    return opener


def default_judge(prompts: Iterable[str]) -> str:
    """Name of the judge for some prompts: ground truth where there is one, else refusal-phrases.

    Args:
        prompts: What the users said last.
    """
    return "organism" if all(find_item(text) for text in prompts) else "refusal-phrases"
