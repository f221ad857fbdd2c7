"""Names of the stand-ins, so that a file that names one is checked before torch is loaded."""

ABLATED = "ablated"
PARTLY_ABLATED = "partly-ablated"
SELF_CONTRAST = "self-contrast"
PERMISSIVE = "permissive"
OPENERS = "openers"
NAMES = (OPENERS, SELF_CONTRAST, ABLATED, PARTLY_ABLATED, PERMISSIVE)
NEEDS = "labelled prompts, lookalikes among them; no reference"
