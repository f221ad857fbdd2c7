import csv
import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdi.errors import PromptError
from tsdi.suites.prompts import read_prompts

KINDS = ["a.jsonl", "a.json", "a.csv", "a.txt"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("prompts")


def read(folder, name, data):
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_prompts(folder / name)


def dump(name, texts):
    """A prompt file of these texts, ids "0", "1"... where the kind of file has any."""
    rows = [{"id": str(n), "prompt": text} for n, text in enumerate(texts)]
    if name.endswith(".jsonl"):
        return "".join(json.dumps(row) + "\r\n" for row in rows)
    if name.endswith(".json"):
        return json.dumps(rows)
    if name.endswith(".csv"):
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, ["id", "prompt"])
        writer.writeheader()
        writer.writerows(rows)
        return table.getvalue()
    return "\n".join(texts)


@pytest.mark.parametrize("name", KINDS)
@given(
    texts=st.lists(
        st.text().filter(lambda text: text.replace("\x00", "").strip()), min_size=1, max_size=4
    )
)
def test_any_text_survives(folder, name, texts):
    if not name.startswith("a.json"):
        texts = [f"{text} ".replace("\x00", " ") for text in texts]  # JSON alone can write it
    if name.endswith(".txt"):
        texts = [text.replace("\n", " ").replace("\r", " ") for text in texts]
    prompts = read(folder, name, dump(name, texts))
    assert [prompt.messages for prompt in prompts] == [
        ({"role": "user", "content": text},) for text in texts
    ]


PIECES = [b'{"prompt": "x"}', b'{"id": "a", ', b'"prompt"', b"id,prompt", b"[", b"]", b",", b"\n"]
ODD_PIECES = [b'"', b"1", b"null", b'{"messages": []}', b'"\\ud800"', b"\xff", b"\x00", b"9" * 5000]
ODD_PIECES += [b'{"prompt": "x", "category": ', b"1e999}", b"NaN}", b"9" * 4301 + b"}"]
JOINED = st.lists(st.sampled_from(PIECES + ODD_PIECES)).map(b"".join)


@pytest.mark.parametrize("name", KINDS)
@given(data=st.binary(max_size=100) | JOINED)
def test_any_bytes_give_prompts_or_an_error_that_names_the_file(folder, name, data):
    for file, content in ((name, data), (f"{name}.gz", data), (f"{name}.gz", gzip.compress(data))):
        try:
            prompts = read(folder, file, content)
        except PromptError as error:
            named = str(folder / file) in str(error)
        else:
            named = len({prompt.id for prompt in prompts}) == len(prompts) > 0
        assert named


@pytest.mark.parametrize("name", KINDS)
@given(cut=st.integers(0, 60))
def test_a_cut_gz_is_an_error(folder, name, cut):
    data = gzip.compress(dump(name, ["one", "two"]).encode())
    with pytest.raises(PromptError):
        read(folder, f"{name}.gz", data[: min(cut, len(data) - 1)])


@pytest.mark.parametrize("name", KINDS)
def test_gz_and_byte_order_mark_change_nothing(folder, name):
    data = dump(name, ["one", "zwei ß"]).encode()
    plain = read(folder, name, data)
    assert plain == read(folder, name, b"\xef\xbb\xbf" + data)
    assert plain == read(folder, f"{name}.gz", gzip.compress(data))


def test_fields_and_names_from_the_line(folder):
    prompts = read(
        folder,
        "b.jsonl",
        '{"instruction": "one", "category": "O3", "output": "left alone"}\n\n'
        '{"id": 7, "messages": [{"role": "system", "content": "be kind"},'
        ' {"role": "user", "content": "two", "weight": 1}]}\n',
    )
    assert [(p.id, p.category, len(p.messages)) for p in prompts] == [
        ("p0001", "O3", 1),
        ("7", "", 2),
    ]
    assert prompts[1].messages[1] == {"role": "user", "content": "two"}
    assert prompts[1].source.endswith("b.jsonl, line 3")


def test_json_takes_plain_texts(folder):
    assert [p.id for p in read(folder, "b.json", '["one", {"prompt": "two"}]')] == [
        "p0001",
        "p0002",
    ]


def test_csv_cells_may_span_lines(folder):
    prompts = read(folder, "b.csv", 'category, prompt,id\nO1,"a\nb",\nO2,c,x\n,d,\n')
    assert [(p.id, p.category) for p in prompts] == [("p0002", "O1"), ("x", "O2"), ("p0005", "")]


def test_lines_of_an_old_mac(folder):
    assert [p.id for p in read(folder, "b.txt", "one\rtwo\r")] == ["p0001", "p0002"]
    assert len(read(folder, "b.jsonl", '{"prompt": "one"}\r{"prompt": "two"}')) == 2


def test_long_cells_are_read(folder):
    text = "mill " * 40_000
    assert read(folder, "b.csv", f"prompt\n{text}\n")[0].messages[0]["content"] == text


def test_kinds(folder):
    rows = '[{"prompt": "a", "kind": "lookalike"}, {"prompt": "b"}, {"prompt": "c", "kind": ""}]'
    assert [p.kind for p in read(folder, "b.json", rows)] == ["lookalike", "", ""]
    table = "prompt,kind\na,harmful\nb,harmless\nc,\n"
    assert [p.kind for p in read(folder, "b.csv", table)] == ["harmful", "harmless", ""]


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("c.txt", "", "holds no prompts"),
        ("c.json", "[]", "holds no prompts"),
        ("c.csv", "id,prompt\n", "holds no prompts"),
        ("c.jsonl", '{"prompt": "a"}\n{"prompt": \n', "line 2: not valid JSON"),
        ("c.jsonl", '{"prompt": "a"}\n"b"\n', "line 2: not a JSON object"),
        ("c.jsonl", '{"prompt": "a"}\n{"text": "b"}\n', "line 2: no prompt"),
        ("c.jsonl", '{"prompt": "a"}\n{"prompt": " "}\n', "line 2: the prompt is empty"),
        ("c.jsonl", '{"prompt": ["a"]}', "line 1: the prompt is not a text"),
        ("c.jsonl", '{"prompt": "\\ud800"}', "line 1: not valid Unicode"),
        (
            "c.jsonl",
            f'{{"prompt": "a", "category": {"9" * 4301}}}',
            "line 1: not valid JSON .`category` is NaN, infinite or of more than 100 digits",
        ),
        ("c.jsonl", '{"prompt": "a", "id": NaN}', "line 1: not valid JSON .`id` is NaN"),
        ("c.jsonl", '{"prompt": "a", "id": 1.5}', "line 1: `id` is neither"),
        (
            "c.jsonl",
            '{"prompt": "a"}\n{"prompt": "b", "kind": "evil"}',
            "line 2: unknown kind 'evil'. Use harmless, lookalike, harmful",
        ),
        ("c.jsonl", '{"prompt": "a", "kind": ["harmful"]}', "line 1: `kind` is neither"),
        ("c.csv", "prompt,kind\na,HARMFUL\n", "line 2: unknown kind 'HARMFUL'"),
        ("c.jsonl", '{"messages": "a"}', "line 1: `messages` is not a list"),
        ("c.jsonl", '{"messages": []}', "line 1: `messages` is not a chat"),
        ("c.jsonl", '{"messages": [{"role": "x", "content": "a"}]}', "line 1: `messages`"),
        ("c.jsonl", '{"messages": [{"role": ["x"], "content": "a"}]}', "line 1: `messages`"),
        ("c.jsonl", '{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}', "line 2: the id 'x'"),
        ("c.jsonl", "[" * 100_000, "line 1: not valid JSON"),
        ("c.json", '[\n{"prompt": "a"},\n}', "line 3: not valid JSON"),
        ("c.json", '{"prompt": "a"}', "is not a JSON list"),
        ("c.json", '["a", 2]', "entry 2: neither a text"),
        ("c.csv", "id,prompt\n1,a,b\n", "line 2: 3 cells under 2"),
        ("c.csv", "id,text\n1,a\n", "line 2: no prompt"),
        ("c.csv", "prompt,prompt\na,b\n", "line 1: two columns are called 'prompt'"),
        ("c.csv", 'prompt\na\n"b\n', "line 3: malformed CSV"),
        ("c.txt", b"a\nb\xff\n", "line 2: not UTF-8"),
        ("c.txt", b"a\nb\x00\n", "line 2: a NUL character"),
        ("c.txt", "a\nb".encode("utf-16"), "line 1: not UTF-8"),
        ("c.csv", "prompt\na\n".encode("utf-16-le"), "line 1: a NUL character"),
        ("c.jsonl.gz", gzip.compress(b" " * 2**25), "more than 100 times its size"),
        ("c.parquet", "PAR1", "not a kind of file"),
    ],
)
def test_bad_files_are_named_with_the_line(folder, name, data, problem):
    with pytest.raises(PromptError, match=f"{name}.*{problem}|{problem}.*{name}") as caught:
        read(folder, name, data)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    (tmp_path / "folder.txt").mkdir()
    for name in ("none.txt", "folder.txt"):
        with pytest.raises(PromptError, match=name):
            read_prompts(tmp_path / name)
