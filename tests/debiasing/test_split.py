"""Prompts in three parts: nothing straddles, every category has enough, and too few are refused."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdi.debiasing.split import OTHER, SHARES, merged_categories, split
from tsdi.errors import PromptError
from tsdi.suites.prompts import Prompt
from tsdi.suites.split import distinct, joined


def made(kind, category, number, group=""):
    return [
        Prompt(
            f"{kind}-{category}-{n}",
            ({"role": "user", "content": f"{kind} {category} {n}"},),
            category,
            kind=kind,
            group=group and f"{kind} {group}{n // 4}",
        )
        for n in range(number)
    ]


HARMLESS = made("harmless", "", 20) + made("lookalike", "pun", 20)


def test_every_kind_and_category_is_in_every_part_by_its_share():
    prompts = HARMLESS + made("harmful", "O1", 40) + made("harmful", "O2", 100)
    found = split(prompts, 10)
    counts = {name: Counter((p.kind, p.category) for p in part) for name, part in found.items()}
    for name, share in SHARES.items():
        assert counts[name]["harmful", "O2"] == pytest.approx(100 * share, abs=1)
        assert counts[name]["lookalike", "pun"] == pytest.approx(20 * share, abs=1)
    assert counts["test"]["harmful", "O1"] >= 10
    assert sum(map(len, found.values())) == len(prompts)


def test_small_categories_are_looked_at_as_one():
    small = [one for n in range(8) for one in made("harmful", f"P{n}", 5)]
    prompts = [*HARMLESS, *made("harmful", "O1", 40), *small]
    assert merged_categories(prompts, 10) == [f"P{n}" for n in range(8)]
    names = {p.category for p in split(prompts, 10)["validation"] if p.kind == "harmful"}
    assert names == {"O1", OTHER}


def test_a_group_is_never_divided():
    prompts = made("harmful", "O1", 80, "near") + made("lookalike", "pun", 40, "near")
    place: dict[str, str] = {}
    for name, part in split(prompts, 10).items():
        for prompt in part:
            assert place.setdefault(prompt.group, name) == name


def test_spaces_and_capitals_make_no_other_prompt():
    (one, *others) = made("harmful", "O1", 3)
    (message,) = one.messages
    like = replace(one, messages=({**message, "content": f" {message['content'].upper()}\n"},))
    groups = [prompt.group for prompt in joined([one, *others, like])]
    assert groups[0] == groups[3]
    assert len(set(groups)) == 3


def test_copies_count_once_and_contradictions_are_refused(caplog):
    once = made("harmful", "O1", 5)
    text = {"role": "user", "content": "HARMFUL  o1 3"}  # but for case and spaces
    copy = Prompt("again", (text,), "O1", kind="harmful")
    with caplog.at_level("INFO"):
        assert distinct([*once, copy]) == once
    assert "1 of 6 prompts are copies" in caplog.text
    with pytest.raises(PromptError, match="one text, once harmful and once harmless"):
        distinct([*once, replace(copy, kind="lookalike")])


def test_copies_stay_together():
    copy = made("harmful", "O1", 60)
    again = [Prompt(f"again-{p.id}", p.messages, "O1", kind="harmful") for p in copy]
    for part in split(HARMLESS + copy + again, 10).values():
        texts = Counter(repr(p.messages) for p in part if p.kind == "harmful")
        assert set(texts.values()) <= {2}


def test_a_text_with_a_group_and_without_stays_together():
    grouped = made("harmful", "O1", 60, "near")
    bare = [Prompt(f"bare-{p.id}", p.messages, "O1", kind="harmful") for p in grouped]
    place: dict[str, str] = {}
    for name, part in split(HARMLESS + grouped + bare, 10).items():
        for prompt in part:
            assert place.setdefault(repr(prompt.messages), name) == name


def test_harmless_prompts_of_small_categories_are_in_every_part():
    own = [one for n in range(40) for one in made("lookalike", f"type {n}", 1)]
    found = split(own + made("harmful", "O1", 40), 10)
    counts = [sum(p.kind == "lookalike" for p in part) for part in found.values()]
    assert counts == [16, 12, 12]


def test_one_text_of_two_kinds_is_refused_by_name():
    both = [*HARMLESS, *made("harmful", "O1", 40)]
    both.append(Prompt("twice", both[-1].messages, "", kind="lookalike"))
    with pytest.raises(PromptError, match=r"harmful-O1-39 and twice are one text"):
        split(both, 10)


def test_where_a_prompt_goes_does_not_depend_on_its_place():
    prompts = HARMLESS + made("harmful", "O1", 40)
    one, other = split(prompts, 10), split(prompts[::-1], 10)
    assert {name: {p.id for p in part} for name, part in one.items()} == {
        name: {p.id for p in part} for name, part in other.items()
    }


@pytest.mark.parametrize(
    ("harmless", "harmful", "group", "why"),
    [
        (40, 33, "", "33 harmful and 40 harmless prompts; three parts take 34 and 20"),
        (19, 40, "", "40 harmful and 19 harmless"),
        (40, 40, "all", "too few of O1: groups, or copies of a text, are too large"),
    ],
)
def test_too_few_are_refused(harmless, harmful, group, why):
    prompts = [
        Prompt(p.id, p.messages, "O1", kind="harmful", group=group)
        for p in made("harmful", "O1", harmful)
    ]
    with pytest.raises(PromptError, match=why):
        split(HARMLESS[:harmless] + prompts, 10)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(1, 12))
def test_a_part_that_judges_has_enough_of_each_category_or_there_is_none(sizes, fewest):
    harmful = [one for n, size in enumerate(sizes) for one in made("harmful", f"C{n}", size)]
    try:
        found = split(HARMLESS + harmful, fewest)
    except PromptError:
        assert merged_categories(harmful, fewest)
        return
    for name in ("validation", "test"):
        counts = Counter(p.category for p in found[name] if p.kind == "harmful")
        assert min(counts.values()) >= fewest
