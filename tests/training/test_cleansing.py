import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data import real
from tsdi.errors import PromptError, UsageError
from tsdi.suites.prompts import read_rows
from tsdi.training.cleansing import (
    BINS,
    THRESHOLD,
    Count,
    check_scored,
    cleanse_pairs,
    histogram,
    to_row,
)
from tsdi.training.data import Pair, to_pairs

SAFE = Pair("how?", "like this", "like that", "O1", "", 1.0, 0.0)
probabilities = st.none() | st.floats(0, 1)
scored = st.lists(st.tuples(probabilities, probabilities), min_size=1, max_size=20)


def pair(chosen, rejected, category="O1"):
    return replace(SAFE, category=category, chosen_safety=chosen, rejected_safety=rejected)


def fate(chosen, rejected, threshold=THRESHOLD, both=False):
    """What becomes of a pair beside one that is kept at every threshold."""
    return cleanse_pairs([pair(chosen, rejected), SAFE], threshold, both).fates[0]


@pytest.mark.parametrize(
    ("chosen", "rejected", "chosen_counts", "both_count"),
    [
        (0.24, 0.0, "chosen unsafe", "chosen unsafe"),
        (0.25, 0.0, "kept", "kept"),
        (0.9, 0.75, "kept", "kept"),
        (0.9, 0.76, "kept", "rejected safe"),
        (0.1, 0.9, "chosen unsafe", "chosen unsafe"),
        (None, 0.0, "unscored", "unscored"),
        (0.9, None, "kept", "unscored"),
        (None, None, "unscored", "unscored"),
        (0.1, None, "chosen unsafe", "chosen unsafe"),
        (None, 0.9, "unscored", "rejected safe"),
    ],
)
def test_what_becomes_of_a_pair(chosen, rejected, chosen_counts, both_count):
    assert fate(chosen, rejected) == chosen_counts
    assert fate(chosen, rejected, both=True) == both_count


def test_threshold_0_keeps_every_scored_pair():
    assert fate(0.0, 1.0, 0) == fate(0.0, 1.0, 0, both=True) == "kept"
    assert fate(None, 1.0, 0) == "unscored"


def test_threshold_1_keeps_certainties_only():
    assert fate(0.999, 0.0, 1) == "chosen unsafe"
    assert fate(1.0, 0.001, 1, both=True) == "rejected safe"
    assert fate(1.0, 0.0, 1, both=True) == "kept"


@given(scored, st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_a_higher_threshold_drops_no_fewer(scores, one, other, rejected):
    pairs = [*(pair(*some) for some in scores), SAFE]
    low, high = (cleanse_pairs(pairs, t, rejected) for t in sorted((one, other)))
    assert {number for number, f in enumerate(low.fates) if f.endswith("safe")} <= {
        number for number, f in enumerate(high.fates) if f.endswith("safe")
    }
    assert high.overall.total == len(pairs)
    assert sum(count.total for count in high.categories.values()) == len(pairs)


def test_kept_pairs_keep_their_order_and_scores():
    pairs = [pair(number / 10, 0.0) for number in (9, 1, 3, 2, 5)]
    assert cleanse_pairs(pairs).kept == [pairs[0], pairs[2], pairs[4]]


def test_counts_and_means_by_category():
    pairs = [pair(0.1, 0.2, "O3"), pair(0.5, None, "O3"), pair(None, 0.4, "O3"), pair(0.9, 0.1, "")]
    found = cleanse_pairs(pairs)
    assert found.categories == {
        "O3": Count(1, 1, 1, pytest.approx(0.3), pytest.approx(0.3)),
        "": Count(1, 0, 0, 0.9, 0.1),
    }
    assert found.overall == Count(2, 1, 1, pytest.approx(0.5), pytest.approx(0.7 / 3))


def test_answers_without_scores_have_no_mean():
    assert cleanse_pairs([pair(0.5, None)]).overall.rejected_safety is None


def test_figures_as_json_hold_no_texts():
    figures = json.dumps(
        cleanse_pairs([SAFE, pair(0.1, 0.9)], rejected=True).to_dict(), allow_nan=False
    )
    assert not any(text in figures for text in (SAFE.prompt, SAFE.chosen, SAFE.rejected))
    found = json.loads(figures)
    assert found["dropped_because"] == {"chosen unsafe": 1, "rejected safe": 0}
    assert found["overall"]["pairs"] == 2
    assert sum(found["histogram"]["rejected"]) == 2


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_is_no_probability(threshold):
    with pytest.raises(UsageError, match="0 to 1"):
        cleanse_pairs([SAFE], threshold)


def test_nothing_left_is_said_with_the_reason():
    with pytest.raises(UsageError, match=r"0\.9: of 3 pairs 2 are dropped and 1 have no score"):
        cleanse_pairs([pair(0.1, 0.0), pair(0.5, 0.0), pair(None, 0.0)], 0.9)
    with pytest.raises(UsageError, match="of 0 pairs"):
        cleanse_pairs([])


@given(st.lists(probabilities))
def test_a_histogram_counts_every_known_probability_in_its_bin(some):
    known = [p for p in some if p is not None]
    edges = [edge / BINS for edge in range(BINS)]
    slow = [0] * BINS
    for p in known:
        slow[max(number for number, edge in enumerate(edges) if edge <= p)] += 1
    assert histogram(some) == slow


def test_the_papers_threshold_is_an_edge_of_a_bin():
    assert histogram([THRESHOLD, 1.0]).index(1) == THRESHOLD * BINS


def test_a_missing_score_column_is_named_with_file_and_row(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"chosen_safety": 1}\n{"chosen_safety": null}\n{"p": 1}\n')
    with pytest.raises(
        PromptError, match=r"pairs\.jsonl, line 3: no column 'chosen_safety'.*are p"
    ):
        check_scored(read_rows(path), rejected=False)
    with pytest.raises(PromptError, match=r"line 1: no column 'rejected_safety'.*--judge"):
        check_scored(read_rows(path), rejected=True)


@pytest.mark.parametrize("one", [SAFE, pair(None, 0.125, ""), pair(1 / 3, None)])
def test_a_written_pair_reads_back(tmp_path, one):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(to_row(one)))
    assert to_pairs(read_rows(path), "safe") == [one]


def test_real_pairs_without_scores_are_all_unscored():
    pairs = to_pairs(read_rows(real("pku-saferlhf/pku_saferlhf_sample32.json")), "safe", True)
    with pytest.raises(UsageError, match=f"{len(pairs)} have no score"):
        cleanse_pairs(pairs)
