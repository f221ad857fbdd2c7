"""tsdi inside other projects' evaluation harnesses: lm-evaluation-harness and Inspect."""
