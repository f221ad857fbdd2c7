"""Engines: backends that generate text, behind one contract."""
