"""Files of settings: anything at all gives a value or one line that names the place, at once."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from tsdi.errors import FormatError
from tsdi.yaml_file import read_settings


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    share: float = 0.5
    epochs: int = 1


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("settings") / "settings.yaml"


def read(file, text):
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return read_settings(file, Anything, "study")


def bomb(levels, wide=9):
    """A file whose last line means wide ** levels values."""
    lines = ["a0: &a0 x"]
    for level in range(1, levels):
        aliases = ", ".join([f"*a{level - 1}"] * wide)
        lines.append(f"a{level}: &a{level} [{aliases}]")
    return "\n".join(lines)


def merge_bomb(levels):
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (bomb(9), "more than 10,000 values, aliases counted"),
        (merge_bomb(9), "more than 10,000 values, aliases counted"),
        ("x: &x [*x]", "line 1: contains itself"),
        ("share: 1\nx: !!int x", "line 2: tags"),
        ("x: !!bool x", "line 1: tags"),
        ("!!python/object/apply:os.getcwd []", "line 1: tags"),
        ("share: 1\nx: 2024-02-31", "line 2, x: '2024-02-31' cannot be read"),
        ("2024-99-99: 1", "line 1: '2024-99-99' cannot be read"),
        ("x: 0b_", "line 1, x: '0b_' cannot be read"),
        (f"x: [1,\n {'9' * 5000}]", "line 2, x.1: '99999999999999999999' cannot be read"),
        (f"share: {'9' * 400}", "line 1, share: the number 99999999999999999999... is too large"),
        ("share: 1e999", "line 1, share: Input should be a finite number"),
        ("share: .inf", "line 1, share: Input should be a finite number"),
        ("epochs: .nan", "line 1, epochs: Input should be a finite number"),
        ("x: " + "[" * 50_000, "line 1: nested deeper than 20 levels"),
        ("- " * 50_000, "line 1: nested deeper than 20 levels"),
        ("[a]: 1", "line 1: a key must be a single word"),
        ("? {a: b}\n: 1", "line 1: a key must be a single word"),
        ("x: 1\nx: 2", "line 2: the key 'x' stands twice"),
        ("share: 1\nx: \x07", "line 2: not valid YAML"),
        ("x: [1\n", "line 2: not valid YAML"),
        ("x: 1\n---\ny: 2\n", "line 2: not valid YAML"),
        ("x: y".encode("utf-16"), "is not UTF-8"),
        ("#" * 2**20 + "\n", "larger than 1 MiB"),
        ("", ""),
        ("- x", ""),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_place(file, text, problem):
    with pytest.raises(FormatError) as caught:
        read(file, text)
    assert str(file) in str(caught.value)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_few_aliases_and_merged_keys_are_taken(file):
    found = read(file, "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, x: 3}")
    assert found.model_extra == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 2},
        "c": {"x": 3, "y": 2},
    }


PIECES = [
    "share",
    "epochs",
    "x",
    ": ",
    "? ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "\n",
    "  ",
    "&a ",
    "*a",
]
PIECES += [
    "<<",
    "=",
    "!!int ",
    "! ",
    "!!bool ",
    "%TAG ! !! \n",
    "---\n",
    "...\n",
    "|\n",
    "'",
    '"',
    "#",
]
PIECES += ["2024-02-31", "2024-02-03 25:61:61", "0b_", "0x_", "1:60", ".inf", ".nan", "1e999", "~"]
PIECES += [
    "9" * 400,
    "9" * 5000,
    "1.0e+999",
    "\t",
    "\r",
    "\x85",
    "\u2028",
    "\ufeff",
    "\x00",
    "\ud800",
]
JOINED = st.lists(st.sampled_from(PIECES)).map("".join)


@given(JOINED | st.text() | st.binary())
@example("a: &a [*a]")
@example("{? [a]: b}")
def test_any_text_gives_settings_or_an_error_that_names_the_file(file, text):
    try:
        sound = isinstance(read(file, text), Anything)
    except FormatError as error:
        sound = str(file) in str(error)
    assert sound
