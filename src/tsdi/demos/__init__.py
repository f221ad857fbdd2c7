"""The main job on models that come along: a real one, and a tiny one in an invented world."""
