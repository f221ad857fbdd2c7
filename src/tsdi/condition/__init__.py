"""Conditions on when to subtract, fitted to prompts labelled harmful or harmless.

prompts          labelled prompts, and the input of the model's head at the end of each
discriminant     a direction in the head's inputs: shrunken linear discriminant, closed form
tokens           the same direction as weights of a few tokens' logits
crossvalidation  AUC on held-out prompts: by category, and without that category
fitting          `fit_condition`: these four in order
evidence         the cross-validated figures, in words
                 (the value and its rule are `tsdi.decoding.condition`)
"""

from tsdi.condition.fitting import Fitting, fit_condition
from tsdi.condition.prompts import Labelled
from tsdi.decoding.condition import Condition

__all__ = ["Condition", "Fitting", "Labelled", "fit_condition"]
