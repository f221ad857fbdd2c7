"""The llama.cpp processor in own code: completions, chats, and what is refused."""

import numpy as np
import pytest
import torch

from tests import tiny
from tests.engines import cases
from tsdi.decoding.llama_cpp import SafetyDebias
from tsdi.engines.base import Request, Sampling
from tsdi.errors import MismatchError, ModelError, UsageError

needs_llama = pytest.mark.skipif(
    "llama.cpp" in cases.NOT_RUN, reason="llama.cpp is not installed, so not run"
)
FORCED = torch.zeros(3, tiny.VOCAB)
FORCED[torch.arange(3), torch.arange(200, 203)] = -1000


class TestTheStep:
    TOKENS = np.arange(20, dtype=np.intc)

    def live(self):
        """Tells the step of each call: it is what is subtracted."""
        rule = SafetyDebias(tiny.bias(torch.arange(20.0)[:, None]), 1.0)
        return lambda tokens: -rule(tokens, np.zeros(1, dtype=np.float32))[0]

    def test_it_begins_where_a_prompt_ends(self):
        step = self.live()
        assert [step(self.TOKENS[:length]) for length in (7, 8, 9)] == [0, 1, 2]

    @pytest.mark.parametrize("length", [7, 3, 9, 12])
    def test_a_call_that_does_not_go_on_is_another_prompt(self, length):
        step = self.live()
        assert [step(self.TOKENS[:n]) for n in (7, 8, 9)] == [0, 1, 2]
        assert [step(self.TOKENS[:n]) for n in (length, length + 1)] == [0, 1]

    def test_a_prompt_that_is_as_long_as_the_next_step_would_be(self):
        step = self.live()
        assert [step(self.TOKENS[:n]) for n in (7, 8)] == [0, 1]
        assert step(self.TOKENS[5:14]) == 0


class TestACondition:
    def test_each_prompt_has_the_strength_of_its_first_logits(self):
        condition = tiny.condition()
        values = torch.randn(3, tiny.VOCAB, generator=torch.Generator().manual_seed(1))
        rule = SafetyDebias(tiny.bias(values).with_condition(condition))
        tokens, rows = np.arange(20, dtype=np.intc), np.random.default_rng(0)
        for length in (7, 3):
            first = rows.normal(0, 5, tiny.VOCAB).astype(np.float32)
            strength = float(condition.strength(torch.tensor(first)[None]))
            for step in range(5):
                scores = first if step == 0 else rows.normal(size=tiny.VOCAB).astype(np.float32)
                found = rule(tokens[: length + step], scores)
                shift = strength * values[step].numpy() if step < 3 else 0.0
                np.testing.assert_allclose(found, scores - shift, atol=1e-5)
                assert rule.found == pytest.approx(strength)


@pytest.fixture(scope="module")
def llama():
    return cases.llama()


@needs_llama
class TestLlama:
    def processors(self, llama, strength=1.0):
        from tsdi.engines.llama_cpp import debias

        return debias(tiny.bias(FORCED), llama, tiny.tokenizer(), strength)

    def text(self, tokens):
        return tiny.tokenizer().decode(tokens)

    def test_completions_are_debiased_again_and_again(self, llama):
        processors = self.processors(llama)
        for prompt in ("bread", "the old mill", "bread"):
            made = llama.create_completion(
                prompt, max_tokens=3, temperature=0, logits_processor=processors
            )
            assert made["choices"][0]["text"] == self.text([200, 201, 202])

    def test_chats_are_debiased(self, llama):
        made = llama.create_chat_completion(
            [{"role": "user", "content": "bread"}], max_tokens=3, temperature=0,
            logits_processor=self.processors(llama),
        )  # fmt: skip
        assert made["choices"][0]["message"]["content"] == self.text([200, 201, 202])

    def test_strength_0_changes_nothing(self, llama):
        plain = llama.create_completion("bread", max_tokens=5, temperature=0)
        off = llama.create_completion(
            "bread", max_tokens=5, temperature=0, logits_processor=self.processors(llama, 0.0)
        )
        assert off["choices"][0]["text"] == plain["choices"][0]["text"]

    def test_an_answer_ends_with_its_turn(self, tmp_path):
        from tests.engines.gguf_file import write_gguf
        from tsdi.engines.llama_cpp import LlamaCppEngine, open_llama

        end = tiny.tokenizer().convert_tokens_to_ids("<|end|>")
        write_gguf(tmp_path / "x.gguf", cases.model(), tiny.tokenizer(), end)
        forced = torch.zeros(3, tiny.VOCAB)
        forced[2, end] = -1000
        loaded = open_llama(str(tmp_path / "x.gguf"))
        engine = LlamaCppEngine(loaded, tiny.tokenizer(), tiny.bias(forced), 1.0)
        (found,) = engine.generate([Request.from_text("bread")], Sampling(max_new_tokens=8))
        assert (len(found.token_ids), found.token_ids[-1], found.finish) == (3, end, "stop")

    def test_another_vocabulary_is_refused(self, llama):
        from tsdi.engines.llama_cpp import debias

        other = tiny.tokenizer(vocab=300)
        with pytest.raises(MismatchError):
            debias(tiny.bias(FORCED), llama, other)

    def test_tokens_at_other_places_are_told(self, llama):
        from tsdi.engines.llama_cpp import check_vocabulary

        other = tiny.tokenizer()
        other.add_tokens(["new"])
        with pytest.raises(MismatchError, match="'new' for the tokenizer and 'nothing'"):
            check_vocabulary(llama, other)

    def test_an_anchored_bias_is_refused(self, llama):
        from tsdi.engines.llama_cpp import check_bias

        with pytest.raises(UsageError, match="</think>"):
            check_bias(tiny.bias(FORCED, anchor="</think>"), llama, tiny.tokenizer())

    def test_a_file_that_is_no_model_is_told(self, tmp_path):
        from tsdi.engines.llama_cpp import open_llama

        with pytest.raises(ModelError, match="There is no file"):
            open_llama(str(tmp_path / "x.gguf"))
        (tmp_path / "y.gguf").write_text("nothing")
        with pytest.raises(ModelError, match="cannot load"):
            open_llama(str(tmp_path / "y.gguf"))
