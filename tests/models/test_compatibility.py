"""What belongs together, and how large it is."""

import pytest

from tests import tiny
from tests.tiny import refused
from tsdi.errors import MismatchError
from tsdi.models.compatibility import (
    check_same_tokenizer,
    context_length,
    shared_vocabulary,
    tokenizer_size,
    vocabulary_width,
)


class TestSizes:
    @pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "phi"])
    def test_width_and_context(self, kind):
        model = tiny.model(kind)
        assert vocabulary_width(model) == tiny.VOCAB
        assert context_length(model) == 128

    def test_the_tokenizer_size_is_one_more_than_its_highest_id(self):
        tokenizer = tiny.tokenizer()
        assert tokenizer_size(tokenizer) == tiny.VOCAB
        tokenizer.add_tokens(["<tool>"], special_tokens=True)
        assert tokenizer_size(tokenizer) == tiny.VOCAB + 1

    @pytest.mark.parametrize(
        ("sizes", "shared"),
        [((10, 10, 8), 10), ((10, 12, 10), 10), ((12, 10, 9), 10), ((10, 10, 12), 10)],
    )
    def test_padding_is_what_the_tokenizer_has_no_ids_for(self, sizes, shared):
        assert shared_vocabulary(*sizes) == shared

    @pytest.mark.parametrize("sizes", [(10, 12, 11), (12, 10, 12)])
    def test_rows_with_tokens_are_no_padding(self, sizes):
        numbers = [str(size) for size in sizes]
        refused(lambda: shared_vocabulary(*sizes), *numbers, kind=MismatchError)


class TestTokenizers:
    def test_another_vocabulary_is_shown(self):
        pair = tiny.tokenizer(), tiny.tokenizer(vocab=319)
        last = tiny.tokenizer().convert_ids_to_tokens(319)
        refused(lambda: check_same_tokenizer(*pair), "320 and 319", last, kind=MismatchError)

    def test_another_way_to_split_is_said(self):
        other = tiny.tokenizer()
        splitter = other.backend_tokenizer.pre_tokenizer
        splitter.add_prefix_space = True
        other.backend_tokenizer.pre_tokenizer = splitter
        refused(
            lambda: check_same_tokenizer(tiny.tokenizer(), other),
            "the splitting rules differ",
            kind=MismatchError,
        )

    def test_another_template_is_another_question(self):
        check_same_tokenizer(tiny.tokenizer(), tiny.tokenizer(None))
