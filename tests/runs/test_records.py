from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tsdi.errors import FormatError, TsdiError
from tsdi.runs.records import append_records, read_records

RECORDS = [{"id": f"p{n}", "response": text} for n, text in enumerate(["one\ntwo", "zwei ß", "三"])]
# Single characters of any kind, halves of surrogate pairs included, between ordinary text.
NUMBERS = [b'{"id": "c", "n": ', b"NaN}", b"1e999}", b"9" * 5000 + b"}", b"[" * 100_000]
TEXTS = st.lists(st.text() | st.characters(categories=["Cs"])).map(" ".join)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("records") / "records.jsonl"


def written(path, records):
    path.unlink(missing_ok=True)
    append_records(path, records)
    return path.read_bytes()


@given(st.lists(TEXTS, max_size=5))
@example(["\u2028 \u2029 \x85 \r\n \x00"])
@example(["\u2028 \ud800 \udfff"])
def test_any_text_survives(path, texts):
    records = [{"id": str(n), "response": text} for n, text in enumerate(texts)]
    data = written(path, records)
    assert read_records(path) == records
    assert len(data.decode().splitlines()) == len(records)


@given(
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [b'{"id": "a"}', b'{"id": "b"}', b"{", b"\n", b"\n", b"12", b"\xff", *NUMBERS]
        )
    ).map(b"".join)
)
def test_any_bytes_give_records_or_an_error_that_names_the_file(path, data):
    path.write_bytes(data)
    try:
        records = read_records(path)
    except FormatError as error:
        sound = str(path) in str(error)
    else:
        append_records(path, [{"id": "new"}])
        sound = read_records(path) == [*records, {"id": "new"}]
    assert sound


def test_a_file_cut_anywhere_loses_at_most_its_last_record_and_can_go_on(path):
    data = written(path, RECORDS)
    ends = [n for n, byte in enumerate(data) if byte == ord("\n")]
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        whole = sum(end <= size for end in ends)  # a record may lack its line feed
        assert read_records(path) == RECORDS[:whole]
        append_records(path, RECORDS[whole:])
        assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "line 2 is not valid JSON"),
        (b"", "line 2 is not valid JSON"),
        (b'{"id": "a", "p": NaN}', r"line 2 is not valid JSON \(`p` is NaN"),
        (b'{"id": "\xff"}', "line 2 is not valid JSON"),
        (b"[1]", "line 2 is not a record"),
        (b'{"id": 1}', "line 2 is not a record"),
        (b'{"id": "p0"}', "line 2 has the id 'p0'"),
    ],
)
def test_damage_within_the_file_is_named(path, line, problem):
    first, *rest = written(path, RECORDS).splitlines(keepends=True)
    path.write_bytes(first + line + b"\n" + b"".join(rest))
    with pytest.raises(FormatError, match=problem):
        read_records(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"none\.jsonl"):
        read_records(tmp_path / "none.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the full device of Linux")
def test_a_full_disk_is_one_clear_error(tmp_path):
    (tmp_path / "responses.jsonl").symlink_to("/dev/full")
    with pytest.raises(TsdiError, match=r"No space left.*Free space.*run it again"):
        append_records(tmp_path / "responses.jsonl", RECORDS)
