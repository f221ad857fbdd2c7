"""Exports of a bias to forms that run without tsdi."""

from tsdi.export.forms import Exported, StaticForm, export

__all__ = ["Exported", "StaticForm", "export"]
