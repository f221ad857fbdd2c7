"""One number on the words that the model's own refusals begin with: the null hypothesis.

Nothing of a reference is in it but the place: it says how far a tuned number goes, which needs no
estimate at all.
"""

import torch

from tsdi.bias import SafetyBias
from tsdi.bias.openers import own_openers
from tsdi.models.chat import decode
from tsdi.models.compatibility import tokenizer_size, vocabulary_width
from tsdi.stand_ins.info import stand_in_info
from tsdi.stand_ins.names import OPENERS
from tsdi.stand_ins.subject import Subject, harmless_of


def openers_bias(subject: Subject) -> SafetyBias:
    """A "bias" of one logit on the model's own refusing openers, at the first step alone.

    Raises:
        PromptError: If the model begins its answers to both kinds of prompts alike.
    """
    harmless, harmful = harmless_of(subject.fit), subject.fit["harmful"]
    with subject.side.open() as model:
        refusing = own_openers(model, subject.tokenizer, harmful, harmless).refusing
        width = min(vocabulary_width(model), tokenizer_size(subject.tokenizer))
    values = torch.zeros(1, width)
    values[0, list(refusing)] = 1.0
    values -= values.mean()
    words = ", ".join(repr(decode(subject.tokenizer, [one])) for one in refusing[:4])
    name = f"itself without one number on {len(refusing)} openers ({words})"
    info = stand_in_info(subject, OPENERS, name, len(harmless) + len(harmful), 2)
    return SafetyBias(values, torch.zeros_like(values), info)
