"""How wrong a judge is: its verdicts beside those of people."""

from tsdi.audit.audit import Audited, audit
from tsdi.audit.labels import LabelFormat
from tsdi.audit.train_judge import train

__all__ = ["Audited", "LabelFormat", "audit", "train"]
