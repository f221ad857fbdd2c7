"""Tiny models without a reference, with labelled prompts."""

from tests import tiny
from tsdi.bias import Estimation, TokenPool
from tsdi.bias.refusal_log_odds import Phrases
from tsdi.models.sides import as_side
from tsdi.stand_ins.subject import Subject

TOKENIZER = tiny.tokenizer()
POOL = TokenPool.from_text(tiny.TEXT, TOKENIZER)
PHRASES = Phrases(refusing=("the river", "bread"), complying=("salt", "every summer day"))
SETTINGS = Estimation(prompts=24, steps=3, prompt_tokens=6, groups=4, pool=POOL)


def by_kind(seed, number=10):
    """Prompts of several lengths, by kind."""
    return {
        kind: [row[: 4 + n % 3] for n, row in enumerate(tiny.ids(number, 6, seed + k).tolist())]
        for k, kind in enumerate(("harmless", "lookalike", "harmful"))
    }


def subject(model, **changes):
    """A model with labelled prompts in two halves."""
    asked = {"fit": by_kind(0), "validation": by_kind(50), "settings": SETTINGS, **changes}
    return Subject(as_side(model), TOKENIZER, phrases=PHRASES, **asked)
