"""A small OpenAI-compatible server around a debiased model; it loads and runs nothing else."""
