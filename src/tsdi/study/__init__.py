"""Studies: figures, the report that holds them, and the experiment on model organisms."""
