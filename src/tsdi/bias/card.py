"""The model card of a bias on the hub."""

from tsdi.bias.case import read_case
from tsdi.bias.info import BiasInfo
from tsdi.decoding.condition import Condition

CARD = """---
{{ card_data }}
---

# A safety bias for a language model

The shift that safety alignment left in the model's logits, made by
[tsdi](https://pypi.org/project/tsdi/) (TSDI, arXiv 2502.02153). `bias_config.json` names the models
and says on which prompts. Use: `SafetyBias.from_pretrained(this_repository, tokenizer=tokenizer)`.
{{ stand_in }}{{ case }}"""


def stand_in_text(info: BiasInfo) -> str:
    """A paragraph of the card that says what stood in for the reference; "" for a true one."""
    if not info.stand_in:
        return ""
    said = f"In place of one stands the model {info.reference}."  # which a verdict says too
    said = info.diagnosis.get("verdict", said)
    return f"\n**Estimated without a reference** (`{info.stand_in}`). {said}\n"


def case_text(info: BiasInfo, condition: Condition | None) -> str:
    """The case of a bias as a paragraph of its card; "" if it is unknown."""
    found = read_case(info.diagnosis if condition is None else condition.evidence)
    return "" if found is None else f"\n{' '.join(found.why.split())}\n"
