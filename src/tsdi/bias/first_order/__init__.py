"""The next term of the shift: how it follows what the aligned model itself says (README.md)."""

from tsdi.bias.first_order.fit import fit_slope
from tsdi.bias.first_order.labelled import LabelledIds

__all__ = ["LabelledIds", "fit_slope"]
