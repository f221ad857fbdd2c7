from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdi.errors import FormatError, MismatchError, UsageError
from tsdi.runs.shard import Part, Shard, described_shard, in_order


def part(number, of=3, folder=None, **made):
    return Part(Path(folder or f"s{number}"), Shard(number, of), {"seed": 0, **made})


@pytest.mark.parametrize("text", ["9/8", "0/8", "8", "a/b", "1/0", "-1/8", "1/8 ", "", "\uff11/2"])
def test_a_shard_that_cannot_be_is_refused(text):
    with pytest.raises(UsageError, match="no shard"):
        Shard.read(text)


@given(of=st.integers(1, 20), pieces=st.integers(0, 50), piece=st.integers(1, 7))
def test_parts_cover_all_once_and_divide_no_piece(of, pieces, piece):
    items = (of + pieces) * piece - piece // 2
    bounds = [Shard(number, of).part(items, piece) for number in range(1, of + 1)]
    assert [k for start, stop in bounds for k in range(start, stop)] == list(range(items))
    assert all(start % piece == 0 for start, _ in bounds)
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) - min(sizes) < 2 * piece


def test_more_shards_than_pieces_are_refused():
    with pytest.raises(UsageError, match=r"10 prompts in batches of 4 make 3 shards at most, not"):
        Shard(1, 4).part(10, 4)


def test_parts_come_in_their_order():
    assert [one.shard.number for one in in_order([part(3), part(1), part(2)])] == [1, 2, 3]


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([part(1), part(3)], r"Shard 2/3 is missing"),
        ([part(3)], r"Shards 1/3, 2/3 are missing"),
        ([part(1), part(2), part(2, folder="again"), part(3)], "s2 and again are both shard 2/3"),
        ([part(1), part(2, of=4), part(3)], "s2 is shard 2/4, s1 is shard 1/3"),
        (
            [part(1), part(2, seed=1), part(3)],
            "s1 and s2 .* no parts of one whole: seed is 0 and 1",
        ),
        ([part(1), part(2, more={"a": 1}), part(3)], "more.a is None and 1"),
    ],
)
def test_gaps_overlaps_and_other_settings_are_named(parts, problem):
    with pytest.raises((UsageError, MismatchError), match=problem):
        in_order(parts)


@pytest.mark.parametrize(
    "value", [None, "2/3", {}, {"number": 4, "of": 3}, {"number": [], "of": 3}]
)
def test_a_damaged_description_is_refused(value):
    with pytest.raises(FormatError, match="damaged"):
        described_shard(value, Path("run.json"))
