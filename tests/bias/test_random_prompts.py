"""Random prompts: each depends on its number and the seed only, inside the model's own template."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny
from tsdi.bias import TokenPool
from tsdi.bias.random_prompts import Frame, RandomPrompts, chat_frame, random_prompts
from tsdi.decoding.anchor import anchor_ids
from tsdi.errors import UsageError
from tsdi.models.chat import ChatFormat, encode_chat

TOKENIZER = tiny.tokenizer()
POOL = TokenPool.from_tokenizer(TOKENIZER)
USER, ASSISTANT, END = TOKENIZER.convert_tokens_to_ids(["<|user|>", "<|assistant|>", "<|end|>"])
BOS = TOKENIZER.bos_token_id
GOLDEN = {
    7: [
        [1, 2, 192, 155, 120, 122, 130, 3, 164, 158, 117],
        [1, 2, 173, 174, 131, 132, 168, 3, 174, 146, 180],
    ],
    123456789: [
        [1, 2, 115, 174, 147, 175, 185, 3, 180, 112, 138],
        [1, 2, 122, 155, 163, 189, 187, 3, 129, 175, 106],
    ],
}


def numbered(seed=7, prompt_tokens=5, steps=4, size=100, ngram=1):
    pool = TokenPool("x", np.arange(100, 100 + size))
    return RandomPrompts(pool, Frame((1, 2), (3,)), prompt_tokens, steps, seed, ngram)


class TestNumberK:
    def test_golden_ids(self):
        """New versions of numpy must draw the same ids, or partial results could not be merged."""
        assert numbered().ids(0, 2).tolist() == GOLDEN[7]
        assert numbered(seed=123456789).ids(10**9, 10**9 + 2).tolist() == GOLDEN[123456789]

    @given(st.integers(0, 2**63), st.integers(0, 40), st.integers(1, 10))
    def test_it_depends_on_seed_and_number_only(self, seed, start, count):
        prompts = numbered(seed)
        together = prompts.ids(start, start + count)
        alone = [prompts.ids(k, k + 1)[0].tolist() for k in range(start, start + count)]
        assert together.tolist() == alone

    def test_numbers_and_seeds_give_different_prompts(self):
        rows = {tuple(row) for seed in range(20) for row in numbered(seed).ids(0, 20).tolist()}
        assert len(rows) == 400

    def test_n_grams_are_runs_of_the_pool(self):
        prompts = numbered(prompt_tokens=6, steps=4, ngram=3)
        drawn = np.delete(prompts.ids(0, 200).numpy(), [0, 1, 8], axis=1)
        runs = drawn.reshape(200, 3, 3)
        assert (np.diff(runs, axis=2) == 1).all()  # the pool holds its ids in their order
        assert {100, 197} <= set(runs[:, :, 0].ravel())  # the first run and the last one
        assert prompts.sha256 != numbered(prompt_tokens=6, steps=4).sha256

    def test_n_grams_are_cut_at_the_end_of_a_row(self):
        assert numbered(prompt_tokens=5, steps=4, ngram=3).ids(0, 1).shape == (1, 11)

    def test_a_run_longer_than_the_pool(self):
        with pytest.raises(UsageError, match="The pool has 2 tokens, no run of 3"):
            numbered(size=2, ngram=3)

    def test_the_layout_is_prefix_prompt_suffix_response(self):
        rows = numbered().ids(0, 50).numpy()
        assert rows.shape == (50, numbered().length) == (50, 2 + 5 + 1 + 3)
        assert (rows[:, :2] == [1, 2]).all()
        assert (rows[:, 7] == 3).all()
        assert (np.delete(rows, [0, 1, 7], axis=1) >= 100).all()

    def test_ids_are_drawn_as_often_as_the_pool_holds_them(self):
        pool = TokenPool("x", np.array([100] * 3 + [101]))
        drawn = RandomPrompts(pool, Frame((), ()), 50, 51, 0).ids(0, 100)
        assert float((drawn == 100).double().mean()) == pytest.approx(0.75, abs=0.02)

    @pytest.mark.parametrize(
        "other",
        [
            numbered(seed=8),
            numbered(prompt_tokens=4),
            numbered(steps=3),
            numbered(size=99),
            RandomPrompts(numbered().pool, Frame((1,), (2, 3)), 5, 4, 7),
        ],
        ids=["seed", "prompt length", "steps", "pool", "frame"],
    )
    def test_the_hash_covers_all_that_decides_the_ids(self, other):
        assert numbered().sha256 == numbered().sha256
        assert numbered().sha256 != other.sha256


TEMPLATES = {
    "plain": tiny.TEMPLATE,
    "trimmed": tiny.TEMPLATE.replace("m['content']", "m['content'] | trim"),
    "spaced": tiny.TEMPLATE.replace("<|end|>", "\n<|end|> the end\n"),
    "system": "<|system|>every summer day<|end|>" + tiny.TEMPLATE,
}


class TestFrame:
    @pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
    def test_it_is_what_the_template_puts_around_a_prompt(self, template):
        tokenizer = tiny.tokenizer(template)
        frame = chat_frame(tokenizer, POOL)
        text = "wheat and barley"
        inside = tokenizer(text, add_special_tokens=False)["input_ids"]
        real = encode_chat(tokenizer, [{"role": "user", "content": text}])
        assert [*frame.prefix, *inside, *frame.suffix] == real

    def test_ids_are_inserted_as_they_are(self):
        prompts = random_prompts(TOKENIZER, POOL, prompt_tokens=5, steps=3, seed=0)
        row = prompts.ids(0, 1)[0].tolist()
        assert row[:2] == [BOS, USER]
        assert row[7:9] == [END, ASSISTANT]
        assert len(row) == prompts.length == 2 + 5 + 2 + 2
        assert set(row[2:7] + row[9:]) <= set(POOL.ids.tolist())

    def test_without_a_template_nothing_is_around(self):
        assert chat_frame(tiny.tokenizer(None), POOL) == Frame((), ())

    def test_a_prompt_format_replaces_the_template(self):
        before, after = (
            TOKENIZER(text, add_special_tokens=False)["input_ids"] for text in ("Q:", "\nA:")
        )
        frame = chat_frame(TOKENIZER, POOL, ChatFormat("Q:{prompt}\nA:"))
        assert frame == Frame(tuple(before), tuple(after))

    def test_an_anchor_ends_the_frame(self):
        plain = chat_frame(TOKENIZER, POOL)
        marker = anchor_ids(TOKENIZER, "</think>")
        assert TOKENIZER.decode(marker) == "</think>"
        assert chat_frame(TOKENIZER, POOL, anchor="</think>") == Frame(
            plain.prefix, plain.suffix + tuple(marker)
        )
        assert anchor_ids(TOKENIZER, "") == []

    @pytest.mark.parametrize("kind", ["parts of characters", "white space"])
    def test_a_pool_of_tokens_that_are_no_text_alone(self, kind):
        """Such tokens cannot be told apart, or vanish, once they are decoded and encoded again."""
        tokenizer = tiny.tokenizer()
        if kind == "white space":
            tokenizer.add_tokens([" " * n + "\n" for n in range(2, 30)])
            pool = TokenPool.from_ids(kind, range(320, 345), tokenizer)
        else:
            ids = range(7, tiny.VOCAB)
            broken = [i for i in ids if tokenizer.decode([i]) == "\N{REPLACEMENT CHARACTER}"]
            pool = TokenPool.from_ids(kind, broken, tokenizer)
        assert chat_frame(tokenizer, pool) == Frame((BOS, USER), (END, ASSISTANT))
