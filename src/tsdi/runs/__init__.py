"""Run folders: answers and verdicts as they come, and what made them."""
