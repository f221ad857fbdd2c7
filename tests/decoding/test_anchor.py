"""The end of a marker is found however a tokenizer splits it in running text."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests import tiny
from tsdi.decoding.anchor import Anchor, anchor_ids, find_anchor
from tsdi.errors import UsageError

MARKER = "</think>"
TEXT = "a </think>\n\nb.</think>\n\nc\n</think>\nd </think> they think: x > y\n\n(no)\n" * 8
CL100K = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"


def trained(pre_tokenizer, decoder, **options):
    backend = Tokenizer(models.BPE(**options))
    backend.pre_tokenizer, backend.decoder = pre_tokenizer, decoder
    alphabet = pre_tokenizers.ByteLevel.alphabet() if not options else sorted(set(TEXT) | {"▁"})
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + 40, initial_alphabet=alphabet, show_progress=False,
        special_tokens=["<unk>", "<eos>"],
    )  # fmt: skip
    backend.train_from_iterator([TEXT], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", unk_token="<unk>")


BPE = trained(
    pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CL100K), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    decoders.ByteLevel(),
)
METASPACE = trained(pre_tokenizers.Metaspace(), decoders.Metaspace(), unk_token="<unk>")
SPECIAL = trained(pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel())
SPECIAL.add_tokens([MARKER], special_tokens=True)
TOKENIZERS = {"BPE": BPE, "Metaspace": METASPACE, "a token of its own": SPECIAL}


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_these_tokenizers_merge_the_marker_with_what_is_around_it():
    alone = ids_of(BPE, MARKER)
    assert ids_of(BPE, f"a{MARKER}\n\n")[-1] not in alone, "the line breaks are in its last token"
    assert ids_of(METASPACE, MARKER)[0] != anchor_ids(METASPACE, MARKER)[0], "a blank of its own"


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(["a", " ", "\n", "\n\n", ".", "<", "</", "/think", ">", "think", MARKER]),
        max_size=12,
    ),
    prompt=st.integers(0, 3),
    together=st.booleans(),
)
def test_step_0_is_after_the_token_with_which_the_text_first_has_the_marker(
    name, parts, prompt, together
):
    tokenizer = TOKENIZERS[name]
    if together:
        answer = ids_of(tokenizer, "".join(parts))
    else:  # as a model may write it, however it is split
        answer = [i for part in parts for i in ids_of(tokenizer, part)]
    begin = ids_of(tokenizer, "b\n\n\n")[:1] * (4 + prompt)
    rows = torch.tensor([begin + answer, begin + answer])
    texts = [tokenizer.decode([*begin, *answer[:k]]) for k in range(len(answer) + 1)]
    first = next((k for k, text in enumerate(texts) if MARKER in text), None)
    expected = -1 if first is None else len(answer) - first
    assert find_anchor(tokenizer, MARKER).steps(rows, len(begin)).tolist() == [expected] * 2


def test_a_marker_in_parts_of_characters_is_refused_when_a_bias_is_made():
    with pytest.raises(UsageError, match="whole characters"):
        find_anchor(BPE, "</思>")


def test_a_marker_that_the_tokenizer_changes_is_refused():
    lower = trained(pre_tokenizers.Metaspace(), decoders.Metaspace(), unk_token="<unk>")
    with pytest.raises(UsageError, match="as it is written"):
        find_anchor(lower, "</THINK>")


def test_the_ids_of_an_estimate_are_those_after_other_text():
    assert METASPACE.decode([*ids_of(METASPACE, "a"), *anchor_ids(METASPACE, MARKER)]) == (
        f"a{MARKER}"
    )
    assert anchor_ids(SPECIAL, MARKER) == [SPECIAL.convert_tokens_to_ids(MARKER)]
    assert anchor_ids(SPECIAL, "") == []


def test_ids_that_the_tokenizer_does_not_know_are_no_marker():
    anchor = Anchor("</>", ["</", ">"])
    assert anchor.steps(torch.tensor([[7, 0, 1], [0, 1, 7], [0, 7, 1]]), 1).tolist() == [0, 1, -1]


def test_the_frame_of_an_estimate_checks_its_marker():
    tokenizer = tiny.tokenizer()
    find_anchor(tokenizer, MARKER)
    with pytest.raises(UsageError, match="whole characters"):
        tiny.prompts(anchor="思")
