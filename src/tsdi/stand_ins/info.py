"""Provenance of a bias without a reference."""

from tsdi.bias import BiasInfo, SafetyBias
from tsdi.bias.estimate import provenance
from tsdi.stand_ins.subject import Subject


def stand_in_info(
    subject: Subject, stand_in: str, reference: str, prompts: int, groups: int
) -> BiasInfo:
    """The provenance of a bias that was estimated on labelled prompts.

    Args:
        subject: The model, and how it is asked.
        stand_in: Name of what stands in for the reference.
        reference: The same in words.
        prompts: Number of labelled prompts.
        groups: Groups of the standard error.
    """
    common = provenance(subject.tokenizer, subject.settings)
    named = {"aligned": subject.side.name, "reference": reference, "stand_in": stand_in}
    return BiasInfo(**common | named | {"prompts": prompts, "groups": groups})


def as_stand_in(bias: SafetyBias, stand_in: str) -> SafetyBias:
    """A bias whose provenance says that its reference was a stand-in, by name."""
    info = bias.info.model_copy(update={"stand_in": stand_in})
    return SafetyBias(bias.values, bias.standard_error, info)
