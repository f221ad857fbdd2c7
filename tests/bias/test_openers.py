import json
from math import log

import pytest
import torch

from tests import tiny
from tsdi.bias import openers
from tsdi.bias.openers import MOST, foreign_openers, own_openers
from tsdi.bias.refusal_log_odds import Phrases, phrase_ids, read_phrases, refusal_log_odds
from tsdi.errors import PromptError, UsageError
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


def _both(tokenizer):
    return [_prompts(tokenizer, kind) for kind in ("harmful", "harmless")]


def test_a_model_that_refuses_in_the_phrases_of_the_list_keeps_them(aligned, monkeypatch):
    model, tokenizer = aligned
    words = Phrases(tuple(REFUSING_OPENERS), tuple(COMPLYING_OPENERS))
    monkeypatch.setattr(openers, "ENGLISH", words)
    assert foreign_openers(model, tokenizer, *_both(tokenizer)) is None


@pytest.mark.parametrize("refusing", ["silver", "nein"])  # which it never says; which it cannot
def test_a_model_that_refuses_in_other_words_shows_them(aligned, monkeypatch, caplog, refusing):
    model, tokenizer = aligned
    monkeypatch.setattr(openers, "ENGLISH", Phrases((refusing,), ("kind",)))
    harmful, harmless = _both(tokenizer)
    with caplog.at_level("INFO"):
        found = foreign_openers(model, tokenizer, harmful, harmless)
    assert {*tokenizer.convert_ids_to_tokens(list(found.refusing))} == {*REFUSING_OPENERS}
    assert "does not refuse in English" in caplog.text
    assert repr(REFUSING_OPENERS[0]) in caplog.text
    ids = [
        phrase_ids(tokenizer, kind) for kind in (found.phrases.refusing, found.phrases.complying)
    ]
    assert ids[0] == [[token] for token in found.refusing]
    odds = [refusal_log_odds(model, kind[0], *ids, (None,))[0] for kind in (harmful, harmless)]
    assert odds[0] > 2 > odds[1]


def test_a_model_that_shows_nothing_keeps_the_list_if_its_tokenizer_knows_it(monkeypatch):
    prompts = tiny.ids(16, 6).tolist()
    assert foreign_openers(tiny.model(), TINY, prompts, prompts) is None
    monkeypatch.setattr(openers, "ENGLISH", Phrases(((),), ((),)))
    with pytest.raises(UsageError, match="knows none of the phrases"):
        foreign_openers(tiny.model(), TINY, prompts, prompts)


def test_few_prompts_are_read_from_all_over_the_list():
    some = openers._some([[n] for n in range(3 * MOST)])
    assert len(some) == MOST
    assert some[-1][0] > 2.9 * MOST
    assert openers._some([[1], [2]]) == [[1], [2]]
    assert openers._some([]) == []


@pytest.mark.parametrize(
    ("each", "refuses", "read"),
    [([0.9] * 10, True, 6), ([0.01] * 10, False, 6), ([0.0] * 5 + [1.0] * 5, True, 10)],
)
def test_phrases_are_read_until_the_answer_is_known(monkeypatch, each, refuses, read):
    """Of a mean of .5, .9 of six prompts of ten is enough, and .01 of six leaves too little."""
    left = iter(each)
    seen = []

    def log_probs(*_):
        seen.append(next(left))
        return [[log(seen[-1] or 1e-300)]]

    monkeypatch.setattr(openers, "phrase_log_probs", log_probs)
    monkeypatch.setattr(openers, "phrase_ids", lambda *_: [[0]])
    assert openers._refuses_in_english(tiny.model(), TINY, [[1]] * 10, 0.5) is refuses
    assert len(seen) == read


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ({"refusing": "no", "complying": ["sure"]}, "a list is needed"),
        ({"refusing": ["no", "sure"], "complying": ["sure"]}, "'sure' is both"),
        ({"refusing": [1], "complying": ["sure"]}, "a phrase is no text"),
    ],
)
def test_a_file_of_phrases_that_cannot_be_right_is_refused(tmp_path, lists, said):
    (tmp_path / "phrases.json").write_text(json.dumps(lists))
    with pytest.raises(PromptError, match=said):
        read_phrases(tmp_path / "phrases.json")
