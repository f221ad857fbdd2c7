"""A bias in other forms: for servers that run no processor of ours."""

from tsdi.export.forms import Exported, StaticForm, export

__all__ = ["Exported", "StaticForm", "export"]
