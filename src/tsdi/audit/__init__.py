"""How wrong a judge is: its verdicts beside those of people."""

from tsdi.audit.audit import Audited, audit
from tsdi.audit.labels import LabelFormat

__all__ = ["Audited", "LabelFormat", "audit"]
