"""A search in Optuna's storage, which several processes share."""

import pytest

from tests.evaluation.test_tuning import world
from tests.tiny import refused
from tsdi.errors import UsageError
from tsdi.evaluation.knobs import Space
from tsdi.evaluation.shared_search import search_together
from tsdi.evaluation.tuning import Search, search_knobs

SPACE = Space(8, 1.0)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'search.db'}"


class Counted:
    """A world that counts its settings, and is killed when none are left to it."""

    def __init__(self, most=1000):
        self.asked, self.most = [], most

    def __call__(self, knobs):
        if len(self.asked) == self.most:
            raise KeyboardInterrupt
        self.asked.append(knobs)
        return world(knobs)


def together(url, answers, name="one", **changes):
    return search_together(answers, SPACE, Search(storage=url, **{"trials": 12, **changes}), name)


def test_two_processes_try_each_setting_once_and_choose_among_all(url):
    first, second = Counted(5), Counted()
    with pytest.raises(KeyboardInterrupt):  # it dies over its sixth, which nobody tries again
        together(url, first)
    found = together(url, second)
    assert found.trials == 11
    own_baselines = 2
    tried = [*first.asked, *second.asked]
    assert len(tried) - own_baselines <= 11
    assert found.chosen.safety["O3"] == 1.0
    assert found.chosen.helpful > found.baseline.helpful
    later = Counted()
    assert together(url, later).chosen == found.chosen
    assert [knobs.off for knobs in later.asked] == [True]  # the model as it is, for the floors


def test_first_come_the_settings_of_a_search_alone(url, tmp_path):
    shared, alone = Counted(), Counted()
    together(url, shared, trials=2)
    search_knobs(alone, SPACE, Search(trials=2), tmp_path / "trials.jsonl")
    assert shared.asked == alone.asked


def test_another_search_shares_nothing(url):
    together(url, Counted(), trials=4)
    other = Counted()
    assert together(url, other, name="other", trials=4).trials == 4
    assert len(other.asked) >= 3


@pytest.mark.parametrize(
    "bad", ["nonsense", "sqlite:////no/such/folder/x.db", "postgresql://u:pw@h/x"]
)
def test_a_storage_that_cannot_be_used_is_one_line_without_its_secrets(bad):
    refused(
        lambda: together(bad, Counted()), "storage of the search cannot be used", kind=UsageError
    )
    with pytest.raises(UsageError) as caught:
        together(bad, Counted())
    assert "pw" not in str(caught.value)
