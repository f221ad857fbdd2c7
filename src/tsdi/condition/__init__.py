"""When to subtract: a condition, fitted to prompts that are labelled harmful or harmless.

prompts          labelled prompts, and what a model knows at the end of each
fit              a direction in the head's inputs: shrunken linear discriminant, closed form
tokens           the same direction as weights of a few tokens' logits
crossvalidation  how well it tells the kinds apart: by category, and without that category
model            the four, one after the other
evidence         what they found, in words
                 (the value and its rule are `tsdi.decoding.condition`)
"""

from tsdi.condition.model import Fitting, fit_condition
from tsdi.condition.prompts import Labelled
from tsdi.decoding.condition import Condition

__all__ = ["Condition", "Fitting", "Labelled", "fit_condition"]
