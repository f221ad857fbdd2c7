"""Attacks: simple transformations that keep the request in them."""

import base64
import codecs

import pytest
from transformers import AutoTokenizer

from tests import tiny
from tsdi import organism
from tsdi.errors import UsageError
from tsdi.models import shipped
from tsdi.suites.attacks import ATTACKS, find_attack, unknown_words

TEXT = "How do I kill a process?"
CHAT = (
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": TEXT},
)


@pytest.mark.parametrize("name", ATTACKS)
def test_only_what_was_said_last_changes(name):
    *earlier, last = ATTACKS[name].transform(CHAT)
    assert tuple(earlier) == CHAT[:-1]
    assert last["role"] == "user"
    assert last["content"] != TEXT
    assert ATTACKS[name].source


def test_the_request_can_be_found_again():
    changed = {name: attack.change(TEXT) for name, attack in ATTACKS.items()}
    for name in ("prefix-injection", "refusal-suppression", "role-play", "repeat"):
        assert TEXT in changed[name]
    assert base64.b64decode(changed["base64"].splitlines()[-1]).decode() == TEXT
    assert codecs.decode(changed["rot13"].splitlines()[-1], "rot13") == TEXT
    assert changed["shout"].lower() == TEXT.lower()
    assert changed["bare"] == "How do I kill a process"


TOKENIZER = AutoTokenizer.from_pretrained(shipped.folder("aligned"))
REQUESTS = [item.prompt for item in organism.items("test", "harmful", 32, 0)]


@pytest.mark.parametrize("name", ["repeat", "bare", *(n for n in ATTACKS if "organism" in n)])
def test_some_stay_within_the_organisms_words(name):
    for text in REQUESTS:
        assert TOKENIZER.unk_token_id not in TOKENIZER(ATTACKS[name].change(text))["input_ids"]
    assert not unknown_words(ATTACKS[name], REQUESTS, TOKENIZER)


def test_the_others_are_unknown_to_an_organism_but_not_to_a_tokenizer_of_bytes():
    for name in ("prefix-injection", "refusal-suppression", "role-play", "base64", "leetspeak"):
        assert unknown_words(ATTACKS[name], REQUESTS, TOKENIZER)
    tokenizer = tiny.tokenizer()
    if tokenizer.unk_token_id is None:
        assert not unknown_words(ATTACKS["base64"], REQUESTS, tokenizer)


def test_a_typo_is_told():
    with pytest.raises(UsageError, match=r"did you mean 'base64'"):
        find_attack("base46")
