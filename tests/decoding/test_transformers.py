"""transformers' ``generate`` with the processor equals a slow loop of the rule's definition."""

import numpy as np
import pytest
import torch

from tests import tiny
from tsdi.decoding import transformers
from tsdi.decoding.anchor import Anchor
from tsdi.decoding.condition import Condition
from tsdi.decoding.transformers import SafetyDebias
from tsdi.errors import UsageError
from tsdi.models.chat import encode_chat

NEW = 6


def debias(values, prompt_length, strength=1.0):
    return SafetyDebias(tiny.bias(values), prompt_length, strength)


BIAS = tiny.bias().values  # three steps, so that half of the new tokens are beyond them


@pytest.fixture(scope="module")
def model():
    made = tiny.model(eos_token_id=None, max_position_embeddings=256)
    made.generation_config.eos_token_id = None
    return made


@torch.no_grad()
def scores_after(model, ids):
    return model(torch.tensor([ids])).logits[0, -1]


def slow(model, prompt, strength=1.0, bias=BIAS, start=0):
    """Greedy decoding by full forward passes; step 0 is response token ``start``."""
    ids = list(prompt)
    for token in range(NEW):
        scores = scores_after(model, ids)
        if 0 <= token - start < len(bias):
            scores = scores - strength * bias[token - start]
        ids.append(int(scores.argmax()))
    return ids[len(prompt) :]


def generated(model, rows, processor, **options):
    """New tokens of every row, after left padding of prompts to one length."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    options = {"do_sample": False, "max_new_tokens": NEW, **options}
    output = model.generate(ids, attention_mask=mask, logits_processor=[processor], **options)
    return output[:, width:].tolist()


PROMPT, SHORT, OTHER = (
    tiny.ids(1, length, seed)[0].tolist() for length, seed in ((8, 1), (3, 2), (5, 3))
)


class TestEqualsTheSlowLoop:
    def test_the_bias_matters_here(self, model):
        assert slow(model, PROMPT) != slow(model, PROMPT, 0.0)

    @pytest.mark.parametrize("strength", [1.0, 0.5, 0.0, torch.tensor(0.5), np.float32(2.0)])
    def test_one_prompt(self, model, strength):
        processor = debias(BIAS, len(PROMPT), strength)
        assert generated(model, [PROMPT], processor) == [slow(model, PROMPT, float(strength))]

    def test_a_left_padded_batch_of_different_lengths(self, model):
        rows = [PROMPT, SHORT, OTHER]
        found = generated(model, rows, debias(BIAS, len(PROMPT)))
        assert found == [slow(model, row) for row in rows]

    def test_a_strength_per_row(self, model):
        rows, strength = [PROMPT, SHORT, PROMPT], [0.0, 1.0, 0.5]
        for given in (strength, torch.tensor(strength), np.array(strength).tolist()):
            processor = debias(BIAS, len(PROMPT), given)
            assert generated(model, rows, processor) == [
                slow(model, row, factor) for row, factor in zip(rows, strength, strict=True)
            ]

    @pytest.mark.parametrize(
        "options",
        [
            {"use_cache": False},
            {"cache_implementation": "static", "disable_compile": True},
            {"prompt_lookup_num_tokens": 3},
        ],
        ids=["no cache", "static cache", "prompt lookup"],
    )
    def test_caches_and_prompt_lookup(self, model, options):
        prompt = PROMPT * 3  # so that there is something to look up
        processor = debias(BIAS, len(prompt))
        assert generated(model, [prompt], processor, **options) == [slow(model, prompt)]

    @pytest.mark.parametrize("alike", [True, False])
    def test_an_assistant_model(self, model, alike):
        assistant = tiny.moved(model, 0.02 if alike else 1.0)
        processor = debias(BIAS, len(PROMPT))
        found = generated(model, [PROMPT], processor, assistant_model=assistant)
        assert found == [slow(model, PROMPT)]

    def test_inputs_embeds_have_no_prompt_ids(self, model):
        embeds = model.get_input_embeddings()(torch.tensor([PROMPT]))
        output = model.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
            logits_processor=[debias(BIAS, 0)],
            max_new_tokens=NEW,
            do_sample=False,
        )
        assert output.tolist() == [slow(model, PROMPT)]

    def test_several_chat_turns_start_at_step_0_each(self, model):
        tokenizer, chat = tiny.tokenizer(), []
        for text in ("grow wheat", "and barley", "every summer"):
            chat.append({"role": "user", "content": text})
            prompt = encode_chat(tokenizer, chat)
            processor = debias(BIAS, len(prompt))
            (answer,) = generated(model, [prompt], processor)
            assert answer == slow(model, prompt)
            chat.append({"role": "assistant", "content": tokenizer.decode(answer)})

    def test_one_object_serves_many_calls(self, model):
        processor = debias(BIAS, len(PROMPT))
        for _ in range(2):
            assert generated(model, [PROMPT], processor) == [slow(model, PROMPT)]

    def test_a_large_bias_forces_tokens(self, model):
        forced = torch.zeros(3, tiny.VOCAB)
        forced[torch.arange(3), torch.tensor([50, 51, 52])] = -1000
        rows = [PROMPT, SHORT]
        found = generated(model, rows, debias(forced, len(PROMPT)))
        assert [row[:3] for row in found] == [[50, 51, 52]] * 2


class TestBeamsAndSamples:
    def slow_beams(self, model, prompt, beams, strength=1.0):
        """Beam search over renormalised debiased scores, without an end of sequence."""
        best = [(0.0, [])]
        for step in range(NEW):
            grown = []
            for total, tokens in best:
                scores = scores_after(model, prompt + tokens)
                if step < len(BIAS):
                    scores = scores - strength * BIAS[step]
                top = scores.log_softmax(-1).topk(beams)
                pairs = zip(top.values.tolist(), top.indices.tolist(), strict=True)
                grown += [(total + value, [*tokens, token]) for value, token in pairs]
            best = sorted(grown, reverse=True)[:beams]
        return best[0][1]

    @pytest.mark.parametrize("beams", [2, 4])
    def test_beams(self, model, beams):
        processor = debias(BIAS, len(PROMPT))
        options = {"num_beams": beams, "renormalize_logits": True}
        found = generated(model, [PROMPT, SHORT], processor, **options)
        assert found == [self.slow_beams(model, row, beams) for row in (PROMPT, SHORT)]

    def test_every_sample_has_the_strength_of_its_row(self, model):
        strength = torch.tensor([0.0, 1.0])
        torch.manual_seed(0)
        output = model.generate(
            torch.tensor([PROMPT, PROMPT[::-1]]),
            attention_mask=torch.ones(2, len(PROMPT), dtype=torch.long),
            logits_processor=[debias(BIAS, len(PROMPT), strength)],
            max_new_tokens=NEW,
            do_sample=True,
            top_k=0,
            num_return_sequences=3,
            output_logits=True,
            output_scores=True,
            return_dict_in_generate=True,
        )
        each = strength.repeat_interleave(3)[:, None]
        assert len({tuple(row) for row in output.sequences.tolist()}) > 2
        for step, (before, after) in enumerate(zip(output.logits, output.scores, strict=True)):
            shift = BIAS[step] if step < len(BIAS) else torch.zeros(tiny.VOCAB)
            assert torch.allclose(after, before - each * shift, atol=1e-5)


class TestACondition:
    """The strength of a row is that of its own logits at step 0, whatever generate does."""

    CONDITION = Condition(
        torch.arange(0, 300, 20), torch.linspace(-1, 1, 15) / 2, 0.2, low=-1.0, high=2.0
    )

    def slow(self, model, prompt, bias=BIAS):
        return slow(model, prompt, self.strength(model, prompt), bias)

    def strength(self, model, prompt):
        return float(self.CONDITION.strength(scores_after(model, prompt)[None]))

    def test_prompts_differ_here(self, model):
        found = [self.strength(model, row) for row in (PROMPT, SHORT, OTHER)]
        assert max(found) - min(found) > 0.5
        assert self.slow(model, PROMPT) != slow(model, PROMPT, 0.0)

    def test_a_left_padded_batch_again_and_again(self, model):
        processor = debias(BIAS, len(PROMPT), self.CONDITION)
        for rows in ([PROMPT, SHORT, OTHER], [OTHER, PROMPT], [PROMPT]):
            assert generated(model, rows, processor) == [self.slow(model, row) for row in rows]

    def test_rows_with_a_strength_of_their_own(self, model):
        rows = [PROMPT, SHORT, PROMPT, OTHER]
        processor = debias(BIAS, len(PROMPT), [0.5, self.CONDITION, self.CONDITION, 0.0])
        assert generated(model, rows, processor) == [
            slow(model, PROMPT, 0.5),
            self.slow(model, SHORT),
            self.slow(model, PROMPT),
            slow(model, OTHER, 0.0),
        ]

    @pytest.mark.parametrize(
        "options",
        [
            {"use_cache": False},
            {"cache_implementation": "static", "disable_compile": True},
            {"prompt_lookup_num_tokens": 3},
        ],
        ids=["no cache", "static cache", "prompt lookup"],
    )
    def test_caches_and_prompt_lookup(self, model, options):
        prompt = PROMPT * 3
        processor = debias(BIAS, len(prompt), self.CONDITION)
        assert generated(model, [prompt], processor, **options) == [self.slow(model, prompt)]

    @pytest.mark.parametrize("alike", [True, False])
    def test_an_assistant_model_has_no_say(self, model, alike):
        assistant = tiny.moved(model, 0.02 if alike else 1.0)
        assert abs(self.strength(assistant, PROMPT) - self.strength(model, PROMPT)) > 1e-3
        processor = debias(BIAS, len(PROMPT), self.CONDITION)
        found = generated(model, [PROMPT], processor, assistant_model=assistant)
        assert found == [self.slow(model, PROMPT)]

    @pytest.mark.parametrize("beams", [2, 4])
    def test_beams(self, model, beams):
        processor = debias(BIAS, len(PROMPT), self.CONDITION)
        options = {"num_beams": beams, "renormalize_logits": True}
        found = generated(model, [PROMPT, SHORT], processor, **options)
        assert found == [
            TestBeamsAndSamples().slow_beams(model, row, beams, self.strength(model, row))
            for row in (PROMPT, SHORT)
        ]

    def test_inputs_embeds_have_no_prompt_ids(self, model):
        embeds = model.get_input_embeddings()(torch.tensor([PROMPT]))
        output = model.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
            logits_processor=[debias(BIAS, 0, self.CONDITION)],
            max_new_tokens=NEW,
            do_sample=False,
        )
        assert output.tolist() == [self.slow(model, PROMPT)]

    def test_two_conditions_in_one_batch_are_refused(self):
        with pytest.raises(UsageError, match="one condition at most"):
            debias(BIAS, 1, [self.CONDITION, tiny.condition()])

    def test_another_number_of_rows_on_the_way_is_refused(self):
        processor = debias(BIAS, 1, self.CONDITION)
        processor(torch.tensor([[5], [5]]), torch.randn(2, tiny.VOCAB))
        with pytest.raises(UsageError, match="1 rows, and another number at its first step"):
            processor(torch.tensor([[5, 6]]), torch.randn(1, tiny.VOCAB))


class TestAnchor:
    """Step 0 is the token after the first end-of-thinking marker, here ids 9, 10."""

    MARKER = Anchor("</>", [*"........", ".", "</", ">", "."])

    @pytest.fixture(autouse=True)
    def marker(self, monkeypatch):
        """Tokens of few letters in the place of the tiny tokenizer's."""
        monkeypatch.setattr(transformers, "find_anchor", lambda tokenizer, marker: self.MARKER)

    def processor(self, values, prompt_length):
        return SafetyDebias(tiny.bias(values, anchor="</>"), prompt_length, 1.0, tiny.tokenizer())

    def steps(self, rows, prompt_length):
        """The step that each row is at, found from what is subtracted; None for nothing."""
        bias = torch.arange(1.0, 5)[:, None].expand(4, 12)
        processor = self.processor(bias, prompt_length)
        ids, scores = torch.tensor(rows), torch.zeros(len(rows), 12)
        for length in range(prompt_length, ids.shape[1] + 1):
            shift = -processor(ids[:, :length], scores)[:, 0]
        return [int(value) - 1 if value else None for value in shift.tolist()]

    @pytest.mark.parametrize(
        ("answer", "step"),
        [
            ([], None),
            ([9], None),
            ([5, 10], None),
            ([9, 5, 10], None),
            ([9, 10], 0),
            ([5, 9, 10], 0),
            ([9, 9, 10], 0),
            ([9, 10, 5], 1),
            ([9, 10, 9, 10], 2),
            ([9, 10, 5, 6, 7], 3),
            ([9, 10, 5, 6, 7, 8], None),
        ],
    )
    def test_the_step_counts_from_the_first_marker_of_the_answer(self, answer, step):
        assert self.steps([[1, 2, 3, *answer]], 3) == [step]
        assert self.steps([[1, 9, 10, 3, 4, 5, *answer]], 6) == [step], "an earlier turn's marker"
        if answer:
            assert self.steps([answer], 0) == [step], "inputs_embeds"

    def test_a_prompt_that_ends_with_the_marker_starts_at_once(self):
        assert self.steps([[1, 9, 10]], 3) == [0]
        assert self.steps([[1, 9, 10, 5]], 3) == [1]

    @pytest.mark.parametrize("breaks", [[3], [3, 3]])
    def test_line_breaks_that_the_template_writes_behind_it_are_no_steps(self, breaks):
        prompt = [1, 9, 10, *breaks]
        assert self.steps([prompt], len(prompt)) == [0]
        assert self.steps([[*prompt, 5]], len(prompt)) == [1]

    def test_a_marker_that_the_prompt_begins_and_the_answer_ends(self):
        assert self.steps([[1, 2, 9, 10]], 3) == [0]

    def test_every_row_has_its_own_step(self):
        rows = [[1, 9, 10, 5], [1, 5, 9, 10], [1, 5, 5, 5], [1, 5, 5, 9]]
        assert self.steps(rows, 1) == [1, 0, None, None]

    def test_in_generate(self, model, monkeypatch):
        plain = slow(model, PROMPT, 0.0)
        place = next(i for i in range(1, NEW - 2) if plain[i] not in plain[:i])
        anchor = Anchor("x", ["x" if i == plain[place] else "." for i in range(tiny.VOCAB)])
        monkeypatch.setattr(transformers, "find_anchor", lambda tokenizer, marker: anchor)
        processor = self.processor(4 * BIAS, len(PROMPT))
        truth = slow(model, PROMPT, bias=4 * BIAS, start=place + 1)
        assert truth[: place + 1] == plain[: place + 1]
        assert truth != plain
        assert generated(model, [PROMPT], processor) == [truth]


class TestRefused:
    @pytest.mark.parametrize("number", [1, 2, NEW - 1, NEW, NEW + 1, 20])
    def test_a_longer_prompt_when_it_is_used_again(self, model, number):
        """It subtracted nothing, as if the prompt were an answer."""
        processor = debias(BIAS, len(PROMPT))
        (answer,) = generated(model, [PROMPT], processor)
        longer = [*PROMPT, *answer, *OTHER * 4][: len(PROMPT) + number]
        if number <= NEW:  # the same answer goes on
            begun = debias(BIAS, len(PROMPT))
            generated(model, [PROMPT], begun)
            assert generated(model, [longer], begun) == [slow(model, longer, start=-number)]
            longer[0] += 1
        with pytest.raises(UsageError, match="Make a processor for this prompt"):
            generated(model, [longer], processor)

    def test_a_longer_batch_in_which_one_row_alone_goes_on(self, model):
        processor = debias(BIAS, len(PROMPT))
        first, _ = generated(model, [PROMPT, OTHER], processor)
        with pytest.raises(UsageError, match="began with 10 ids"):
            generated(model, [[*PROMPT, *first[:2]], OTHER * 2], processor)

    def test_a_first_prompt_that_is_longer(self, model):
        with pytest.raises(UsageError, match=r"prompt_length is 7, but generate\(\) began with 8"):
            generated(model, [PROMPT], debias(BIAS, 7))

    @pytest.mark.parametrize(
        "strength",
        [float("nan"), float("inf"), -1, 101, True, "1", [1.0, float("nan")], [[1.0]]],
    )
    def test_a_strength_that_is_none(self, strength):
        with pytest.raises(UsageError, match="no number from 0"):
            debias(BIAS, 1, strength)

    def test_a_prompt_length_beyond_the_prompt(self, model):
        with pytest.raises(UsageError, match=r"prompt_length is 9, but generate\(\) began with 8"):
            generated(model, [PROMPT], debias(BIAS, 9))

    def test_a_prompt_length_with_inputs_embeds(self, model):
        embeds = model.get_input_embeddings()(torch.tensor([PROMPT]))
        with pytest.raises(UsageError, match="0 with inputs_embeds"):
            model.generate(
                inputs_embeds=embeds,
                attention_mask=torch.ones(1, 8, dtype=torch.long),
                logits_processor=[debias(BIAS, 8)],
                max_new_tokens=2,
            )

    def test_a_negative_prompt_length(self):
        with pytest.raises(UsageError, match="prompt_length must not be negative, not -1"):
            debias(BIAS, -1)

    def test_continuous_batching(self):
        assert SafetyDebias.supports_continuous_batching is False
        with pytest.raises(UsageError, match="continuous batching gives it no step"):
            debias(BIAS, 0)(torch.tensor([1, 2]), torch.zeros(2, tiny.VOCAB))

    def test_a_bias_that_is_wider_than_the_model(self):
        small = tiny.model(vocab_size=300)
        with pytest.raises(UsageError, match="bias is for 320 tokens, the model has 300"):
            generated(small, [[7, 8, 9]], debias(BIAS, 3))

    @pytest.mark.parametrize("number", [0, 2, 4])
    def test_strengths_for_another_batch(self, model, number):
        processor = debias(BIAS, len(PROMPT), torch.ones(number))
        with pytest.raises(UsageError, match=f"{number} strengths for 3 rows"):
            generated(model, [PROMPT, SHORT, OTHER], processor)


def test_columns_beyond_the_bias_are_padding():
    wide = tiny.model(vocab_size=384, eos_token_id=None)
    ids = torch.tensor([PROMPT])
    scores = torch.randn(1, 384)
    found = debias(BIAS, len(PROMPT))(ids, scores)
    assert torch.equal(found[:, 320:], scores[:, 320:])
    assert torch.equal(found[:, :320], scores[:, :320] - BIAS[0])
    processor = debias(BIAS, len(PROMPT))
    padded = torch.cat([BIAS, torch.zeros(3, 64)], dim=1)
    assert generated(wide, [PROMPT], processor) == [slow(wide, PROMPT, bias=padded)]
