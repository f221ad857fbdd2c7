"""The command line: each command parses, calls one function and shows what came of it."""
