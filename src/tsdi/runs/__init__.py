"""Run folders: answers and verdicts, appended as they come, and their provenance."""
