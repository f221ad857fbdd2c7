import pytest
import torch

from tests.fake_engine import FakeEngine
from tsdi.engines.base import Request, Sampling
from tsdi.errors import MismatchError, PromptError

REQUESTS = [Request.from_text(f"what is number {n}") for n in range(6)]
GREEDY = Sampling(max_new_tokens=12, keep_logits=True)
SAMPLED = Sampling(max_new_tokens=12, temperature=1.0, seed=3, keep_logits=True)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_an_answer_does_not_depend_on_its_neighbours(sampling):
    together = FakeEngine().generate(REQUESTS, sampling)
    alone = [FakeEngine().generate([request], sampling)[0] for request in REQUESTS]
    assert together == alone
    assert len({completion.text for completion in together}) == len(REQUESTS)


def test_the_seed_decides_the_draws():
    first, second = (
        FakeEngine().generate(REQUESTS, Sampling(max_new_tokens=12, temperature=1.0, seed=seed))
        for seed in (0, 1)
    )
    assert first != second


def test_greedy_takes_the_highest_logit_of_the_biased_ones():
    bias = torch.randn(3, 32, generator=torch.Generator().manual_seed(0)) * 5
    for completion in FakeEngine(bias=bias).generate(REQUESTS, GREEDY):
        assert completion.logits.shape == (len(completion.token_ids), 32)
        assert completion.logits.argmax(dim=-1).tolist() == list(completion.token_ids)


def test_the_bias_is_subtracted_for_its_steps_only():
    # The first column stands for all tokens, so that the answers stay the same.
    bias = torch.tensor([[1.0], [2.0]]).expand(2, 32)
    plain = FakeEngine().generate(REQUESTS, GREEDY)
    debiased = FakeEngine(bias=bias, strength=0.5).generate(REQUESTS, GREEDY)
    stronger = [Request(request.messages, strength=2.0) for request in REQUESTS]
    for before, after, more in zip(
        plain,
        debiased,
        FakeEngine(bias=bias, strength=0.5).generate(stronger, GREEDY),
        strict=True,
    ):
        assert before == after == more
        shift = torch.zeros(len(before.token_ids), 1)
        shift[:2, 0] = torch.tensor([1.0, 2.0])[: len(shift)]
        torch.testing.assert_close(before.logits - after.logits, (0.5 * shift).expand(-1, 32))
        torch.testing.assert_close(before.logits - more.logits, (2.0 * shift).expand(-1, 32))


def test_an_answer_stops_at_the_end_token_or_at_the_limit():
    completions = FakeEngine().generate(
        [Request.from_text(f"question {n}") for n in range(40)], GREEDY
    )
    assert {completion.finish for completion in completions} == {"stop", "length"}
    for completion in completions:
        assert (completion.finish == "stop") == (completion.token_ids[-1] == 0)
        assert completion.token_ids.count(0) == (completion.finish == "stop")


def test_a_request_beyond_the_context_is_refused():
    engine = FakeEngine(context=16)
    with pytest.raises(PromptError, match="17 tokens"):
        engine.check(Request.from_text("one two three four"), GREEDY)
    engine.check(Request.from_text("one two three"), GREEDY)


def test_a_bias_of_another_vocabulary_is_refused():
    with pytest.raises(MismatchError):
        FakeEngine(vocab=8, bias=torch.zeros(2, 9))
