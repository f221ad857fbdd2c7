"""The whole way in one command: estimate, condition, tune, gate, report."""
