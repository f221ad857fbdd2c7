"""The token pool: which ids random prompts are drawn from, and how often."""

import gzip
from collections import Counter

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny
from tsdi.bias import TokenPool
from tsdi.errors import PoolError
from tsdi.models.load import load_tokenizer

TOKENIZER = tiny.tokenizer()
SPECIAL = set(TOKENIZER.all_special_ids)


def test_a_text_gives_its_tokens_as_often_as_they_occur():
    pool = TokenPool.from_text(tiny.TEXT, TOKENIZER)
    ids = TOKENIZER(tiny.TEXT, add_special_tokens=False)["input_ids"]
    assert pool.ids.dtype == np.int64
    assert Counter(pool.ids.tolist()) == Counter(ids)
    assert max(Counter(ids).values()) > 1


def test_the_tokenizer_gives_every_ordinary_token_once():
    pool = TokenPool.from_name("tokenizer", TOKENIZER)
    assert sorted(pool.ids.tolist()) == sorted(set(range(tiny.VOCAB)) - SPECIAL)


def test_the_neutral_text_comes_with_tsdi():
    assert TokenPool.from_name("neutral", TOKENIZER).name == "neutral"


@given(st.text())
def test_special_tokens_are_never_drawn(text):
    special = "<eos><|user|><|end|><bos><pad>"
    pool = TokenPool.from_text(f"{special}{tiny.TEXT}{text}{special}", TOKENIZER)
    assert not SPECIAL & set(pool.ids.tolist())


def test_special_tokens_added_later_are_never_drawn():
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["<tool>"], special_tokens=True)
    tokenizer.add_tokens(["tsdi"])
    tool, ordinary = tokenizer.convert_tokens_to_ids(["<tool>", "tsdi"])
    drawn = TokenPool.from_tokenizer(tokenizer).ids
    assert tool not in drawn
    assert ordinary in drawn


def test_the_hash_tells_ids_and_their_order_apart():
    one = TokenPool("x", np.arange(20))
    assert one.sha256 == TokenPool("y", np.arange(20)).sha256
    assert one.sha256 != TokenPool("x", np.arange(20)[::-1]).sha256
    assert one.sha256 != TokenPool("x", np.arange(21)).sha256


class TestTooFewTokens:
    @pytest.mark.parametrize("text", ["", "\n", "aaaa", "<eos><bos><pad>", "abcabc " * 99])
    def test_a_tiny_text_is_refused(self, text):
        with pytest.raises(PoolError, match=r"'text' has \d+ different .*at least 16"):
            TokenPool.from_text(text, TOKENIZER)

    def test_a_text_of_unknown_words_is_refused(self):
        known = load_tokenizer("organism/aligned")
        with pytest.raises(PoolError, match="does not know many words of the token pool"):
            TokenPool.from_name("neutral", known)

    def test_the_limit_counts_different_tokens(self):
        assert len(TokenPool.from_ids("x", list(range(20, 36)) * 2, TOKENIZER).ids) == 32
        with pytest.raises(PoolError, match="'x' has 15 different"):
            TokenPool.from_ids("x", list(range(20, 35)) * 9, TOKENIZER)


class TestFiles:
    @pytest.mark.parametrize("name", ["pool.txt", "pool.txt.gz"])
    def test_plain_and_gzipped_text(self, tmp_path, name):
        data = tiny.TEXT.encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        pool = TokenPool.from_name(str(path), TOKENIZER)
        assert pool.name == name
        assert pool.sha256 == TokenPool.from_text(tiny.TEXT, TOKENIZER).sha256

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("binary.txt", b"\xff\xfe\x00" * 99),
            ("empty.txt", b""),
            ("no.gz", tiny.TEXT.encode()),
            ("cut.gz", gzip.compress(tiny.TEXT.encode(), mtime=0)[:-20]),
            ("damaged.gz", gzip.compress(tiny.TEXT.encode(), mtime=0)[:40] + b"\0" * 60),
        ],
    )
    def test_a_file_without_text_is_refused_by_name(self, tmp_path, name, data):
        (tmp_path / name).write_bytes(data)
        self.refused(tmp_path / name)

    def test_missing_files_and_folders_are_refused_by_name(self, tmp_path):
        self.refused(tmp_path / "missing.txt")
        self.refused(tmp_path)

    def refused(self, path):
        with pytest.raises(PoolError) as caught:
            TokenPool.from_name(str(path), TOKENIZER)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)

    @given(st.binary(), st.sampled_from(["any.txt", "any.gz"]))
    def test_no_bytes_raise_anything_else(self, tmp_path_factory, data, name):
        path = tmp_path_factory.mktemp("pool") / name
        path.write_bytes(data)
        with tiny.only_tsdi_errors():
            TokenPool.from_file(path, TOKENIZER)


class TestMmlu:
    def test_questions_and_choices_are_read(self, monkeypatch):
        asked = []

        def load_dataset(*args, **options):
            asked.append((args, options))
            return [{"question": tiny.TEXT, "choices": ["wheat", "barley"], "answer": 0}] * 2

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        pool = TokenPool.from_name("mmlu", TOKENIZER)
        assert asked == [(("cais/mmlu", "all"), {"split": "test"})]
        text = f"{tiny.TEXT}\nwheat\nbarley\n{tiny.TEXT}\nwheat\nbarley"
        assert pool.sha256 == TokenPool.from_text(text, TOKENIZER).sha256

    def test_offline_the_way_out_is_told_in_one_line(self, monkeypatch):
        def load_dataset(*_args, **_options):
            raise ConnectionError("Couldn't reach the Hub\n(offline mode)")

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        with pytest.raises(PoolError, match=r"Cannot load MMLU .*text file") as caught:
            TokenPool.from_name("mmlu", TOKENIZER)
        assert "\n" not in str(caught.value)

    def test_without_datasets_the_install_line_is_given(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "datasets", None)
        with pytest.raises(PoolError, match=r"pip install 'tsdi\[data\]'"):
            TokenPool.from_name("mmlu", TOKENIZER)
