"""Models by name: where they are, how they are loaded, and whether the parts fit together."""
