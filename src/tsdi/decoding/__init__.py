"""Decoding rules: pure functions on logits, and their transformers processor."""
