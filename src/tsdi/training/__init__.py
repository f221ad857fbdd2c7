"""Training: the recipes that make a reference and its aligned models."""
