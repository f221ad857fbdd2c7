import pytest
import torch

from tests import tiny
from tsdi.bias.openers import own_openers
from tsdi.errors import PromptError
from tsdi.models.chat import encode_chat
from tsdi.models.load import load_tokenizer
from tsdi.models.shipped import folder
from tsdi.organism import items
from tsdi.organism.lexicon import COMPLYING_OPENERS, REFUSING_OPENERS
from tsdi.organism.load import load_organism

TINY = tiny.tokenizer()


def _prompts(tokenizer, kind, number=10):
    found = items("validation", kind, number, 0)
    return [
        encode_chat(tokenizer, [{"role": "user", "content": one.prompt}]) for one in found[:number]
    ]


@pytest.fixture(scope="module")
def aligned():
    return load_organism("aligned"), load_tokenizer(str(folder("aligned")))


def test_a_model_shows_the_openers_that_its_answers_were_written_with(aligned):
    model, tokenizer = aligned
    found = own_openers(
        model, tokenizer, *(_prompts(tokenizer, kind) for kind in ("harmful", "harmless"))
    )
    for ids, words in ((found.refusing, REFUSING_OPENERS), (found.complying, COMPLYING_OPENERS)):
        assert {*tokenizer.convert_ids_to_tokens(list(ids))} == {*words}
    assert found.refused > 0.9
    assert found.passed < 0.5


@torch.no_grad()
def test_openers_and_their_shares_are_those_of_a_plain_loop(monkeypatch):
    monkeypatch.setattr("tsdi.bias.openers.APART", 0.0)
    model = tiny.model(seed=3)
    kinds = [[[*ids, 20 * n] for ids in tiny.ids(8 + n, 4, n).tolist()] for n in (1, 2)]
    found = own_openers(model, TINY, *kinds)
    rows = [
        torch.stack([model(torch.tensor([ids])).logits[0, -1].double().softmax(0) for ids in kind])
        for kind in kinds
    ]
    bad, good = (each.mean(0) for each in rows)
    error = sum(each.var(0) / len(each) for each in rows).sqrt()
    for ids, more in ((found.refusing, bad - good), (found.complying, good - bad)):
        order = sorted(range(len(more)), key=lambda token: -more[token])
        total, held, expected = float(more.clamp(min=0).sum()), 0.0, []
        for token in order:
            if held < 0.95 * total and more[token] > 2 * error[token]:
                expected.append(token)
            held += max(float(more[token]), 0.0)
        assert list(ids) == expected
    assert min(len(found.refusing), len(found.complying)) > 1
    assert found.refused == pytest.approx(float(bad[list(found.refusing)].sum()), abs=1e-6)
    assert found.passed == pytest.approx(float(good[list(found.refusing)].sum()), abs=1e-6)


def test_a_model_that_begins_alike_after_both_kinds_shows_none():
    prompts = tiny.ids(16, 6).tolist()
    with pytest.raises(PromptError, match="as it does those to harmless ones"):
        own_openers(tiny.model(), TINY, prompts, prompts)


@pytest.mark.parametrize("few", [0, 1])
def test_few_prompts_of_a_kind_are_refused(few):
    kinds = [tiny.ids(n, 6).tolist() for n in ((7, 8) if few else (8, 7))]
    with pytest.raises(PromptError, match="8 or more of each kind"):
        own_openers(tiny.model(), TINY, *kinds)
