"""Engines: what generates text, behind one contract."""
