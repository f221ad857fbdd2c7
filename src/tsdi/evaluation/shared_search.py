"""A search that several processes share through Optuna's storage, each trying settings in turn."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from tsdi.errors import TsdiError, UsageError
from tsdi.evaluation.knobs import Space
from tsdi.evaluation.tuning import (
    Answers,
    Search,
    Trial,
    Tuning,
    check_installed,
    floors_of,
    make_sampler,
    measure,
    read_trial,
    result_of,
)
from tsdi.runs.stage import Progress

if TYPE_CHECKING:
    from optuna.study import Study

_LOG = logging.getLogger(__name__)


def search_together(
    answers: Answers, space: Space, search: Search, name: str, progress: Progress | None = None
) -> Tuning:
    """Try settings of a search in turn with whoever shares its storage, until all are tried.

    Every process measures the model as it is by itself, as all floors rest on it. Settings are
    those that were tried by the time this process found no more; each process chooses among them.

    Args:
        answers: Judged answers to a setting.
        space: Which settings there are.
        search: Options of the search, with its storage.
        name: What the search is called in the storage; others have other names.
        progress: Called with the number of settings tried, by anyone, and their number in all.

    Raises:
        UsageError: If the storage cannot be used, or floors or prompts cannot be right.
        FormatError: If a trial in the storage is damaged.
    """
    import optuna

    check_installed()
    with _said_in_one_line():
        study = _study(space, search, name)
        nothing = space.propose(optuna.trial.FixedTrial(space.first()[0]))  # type: ignore[arg-type]
    baseline = measure(nothing, answers(nothing))
    floors = floors_of(baseline, search.tolerance, search.floors)
    while True:
        with _said_in_one_line():
            asked = study.ask()
            if asked.number >= search.trials:
                study.tell(asked, state=optuna.trial.TrialState.FAIL)
                break
            knobs = space.propose(asked)
            same = next((one for one in [baseline, *_done(study)] if one.knobs.alike(knobs)), None)
        trial = replace(same, knobs=knobs) if same else measure(knobs, answers(knobs))
        margin = trial.margin(floors)
        with _said_in_one_line():
            asked.set_user_attr("trial", asdict(trial))
            asked.set_user_attr("margin", margin)
            study.tell(asked, [trial.helpful, margin])
            found = _done(study)
        if progress:
            progress(len(found), search.trials)
    with _said_in_one_line():
        found = _done(study)
    if len(found) < search.trials:
        _LOG.info(
            "%d of %d settings are still being tried elsewhere, or died there: this choice is among"
            " the others.",
            search.trials - len(found),
            search.trials,
        )
    again = next((one for one in found if one.knobs.alike(nothing)), None)
    tried = [one for one in found if one is not again]
    return result_of([baseline, *tried], floors, space, search.attacks)


def check_storage(search: Search) -> None:
    """Raise UsageError if a search has a storage that cannot be used; Optuna's tables are made."""
    if search.storage is not None:
        import optuna

        with _said_in_one_line():
            optuna.storages.get_storage(search.storage)


def _study(space: Space, search: Search, name: str) -> "Study":
    """The shared study; who makes it also says which settings are tried first."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler, storage = make_sampler(None), optuna.storages.get_storage(search.storage)
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=["maximize", "maximize"],
            sampler=sampler,
        )
    except optuna.exceptions.DuplicatedStudyError:
        return optuna.load_study(study_name=name, storage=storage, sampler=sampler)
    for first in space.first():
        study.enqueue_trial(first)
    return study


def _done(study: "Study") -> list[Trial]:
    """The settings that have been tried, by anyone."""
    import optuna

    complete = (optuna.trial.TrialState.COMPLETE,)
    trials = study.get_trials(deepcopy=False, states=complete)
    return [read_trial({"id": t.number, **t.user_attrs.get("trial", {})}) for t in trials]


@contextmanager
def _said_in_one_line() -> Iterator[None]:
    """What goes wrong with a storage, without its URL, which may hold a password."""
    try:
        yield
    except TsdiError:
        raise
    except Exception as error:  # of SQLAlchemy, of a driver, of what is not installed for it
        raise UsageError(
            f"The storage of the search cannot be used ({type(error).__name__}).",
            "Give a URL such as sqlite:///search.db or postgresql://HOST/NAME, with its driver"
            " installed; --debug shows the error.",
        ) from error
