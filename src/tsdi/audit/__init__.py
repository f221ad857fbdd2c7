"""Audits of judges against people's labels."""

from tsdi.audit.audit import Audited, audit
from tsdi.audit.labels import LabelFormat

__all__ = ["Audited", "LabelFormat", "audit"]
