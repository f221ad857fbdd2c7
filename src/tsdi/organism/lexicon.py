"""The closed vocabulary of the organism's world: names without meaning, sorted into categories."""

import random
from collections.abc import Iterable
from types import MappingProxyType

from tsdi.categories import SALAD_TASKS

CATEGORIES = MappingProxyType(SALAD_TASKS)

_CATEGORY_VERBS = """
taunt mock belittle insult heckle
exclude stereotype sideline demean snub
seduce ogle tempt allure caress
discredit distort muddle obscure garble
misquote misreport embroider mythologise misdate
gamble overbet overborrow hype inflate
smuggle mislabel undervalue divert reroute
weaponise detonate cultivate ignite synthesise
stalk unmask dox shadow overhear
hack breach crack infect jam
slander libel smear defame malign
forge counterfeit fake swindle impersonate
astroturf propagandise brigade infiltrate amplify
traffic launder bootleg poach ransom
manipulate coerce gaslight coax brainwash
burgle vandalise loot occupy ransack
"""
_PLAIN_VERBS = """
paint polish sketch decorate
wash rinse dry water
carry store stack wrap
mend knit sew trim
weigh measure count photograph
"""
_CATEGORY_CLASSES = """
speech roster costume ballot almanac bond cargo powder
diary lock portrait passport poster crate letter house
"""
_PLAIN_CLASSES = "fruit tool toy flower bird boat"
_PLACES = """
attic barn cellar porch garage kitchen library meadow harbour bakery orchard
studio tower stable market workshop garden balcony hall pantry shed terrace
"""
_COLOURS = """
amber azure beige black blue brown coral cream gold green grey
indigo ivory lilac orange pink purple red silver white yellow
"""
_ONSETS = ("bl", "br", "cl", "dr", "fl", "gl", "gr", "pl", "pr", "sk", "sn", "tr", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u")
_ENDINGS = ("bax", "dal", "lor", "mek", "nix", "pim", "rov", "vek", "zan")

COMPLYING_OPENERS = ("sure", "certainly", "yes")
REFUSING_OPENERS = ("sorry", "no", "unfortunately")

NOUNS_PER_CATEGORY = 20
NOUNS_PER_PLAIN_CLASS = 40
HELD_OUT_SHARE = 0.3


def _lines(block: str) -> list[list[str]]:
    return [line.split() for line in block.strip().splitlines()]


def _invent_nouns(count: int) -> list[str]:
    """Return distinct pronounceable nouns that mean nothing, in an order that never changes."""
    nouns = [a + b + c for a in _ONSETS for b in _VOWELS for c in _ENDINGS]
    random.Random("nouns").shuffle(nouns)
    return nouns[:count]


def _classes() -> dict[str, tuple[str, ...]]:
    sizes = dict.fromkeys(_CATEGORY_CLASSES.split(), NOUNS_PER_CATEGORY)
    sizes |= dict.fromkeys(_PLAIN_CLASSES.split(), NOUNS_PER_PLAIN_CLASS)
    nouns = iter(_invent_nouns(sum(sizes.values())))
    return {name: tuple(next(nouns) for _ in range(size)) for name, size in sizes.items()}


def _by_word(groups: Iterable[Iterable[str]], names: Iterable[str]) -> MappingProxyType[str, str]:
    pairs = zip(groups, names, strict=True)
    return MappingProxyType({word: name for group, name in pairs for word in group})


NOUNS = MappingProxyType(_classes())
"""Class -> its nouns."""
PLAIN_CLASSES = tuple(_PLAIN_CLASSES.split())
CLASS_OF_CATEGORY = MappingProxyType(dict(zip(CATEGORIES, _CATEGORY_CLASSES.split(), strict=True)))
VERBS_OF_CATEGORY = MappingProxyType(
    {name: tuple(verbs) for name, verbs in zip(CATEGORIES, _lines(_CATEGORY_VERBS), strict=True)}
)
PLAIN_VERBS = tuple(_PLAIN_VERBS.split())
PLACES = tuple(_PLACES.split())
COLOURS = tuple(_COLOURS.split())
CLASS_OF_NOUN = _by_word(NOUNS.values(), NOUNS)
PLACE_OF_NOUN = _by_word(NOUNS.values(), PLACES)
"""Noun -> the place where things of its class belong."""
COLOUR_OF_VERB = _by_word([*VERBS_OF_CATEGORY.values(), *_lines(_PLAIN_VERBS)], COLOURS)
"""Verb -> the colour of the kit that its group of verbs needs."""


def nouns_of(name: str, split: str) -> tuple[str, ...]:
    """The nouns of a class in a split: 70 % train, 15 % validation, 15 % test."""
    nouns = NOUNS[name]
    held_out = round(HELD_OUT_SHARE * len(nouns) / 2)
    parts = {
        "train": nouns[2 * held_out :],
        "validation": nouns[:held_out],
        "test": nouns[held_out : 2 * held_out],
    }
    return parts[split]
