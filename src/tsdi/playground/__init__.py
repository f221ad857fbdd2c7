"""One model's plain and debiased answers side by side: in a browser, and token by token."""

from tsdi.playground.page import Page, playground
from tsdi.playground.side_by_side import Both, Setting, SideBySide, open_side_by_side

__all__ = ["Both", "Page", "Setting", "SideBySide", "open_side_by_side", "playground"]
