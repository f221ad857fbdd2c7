"""Measurements that need a GPU, at most ten minutes altogether."""
