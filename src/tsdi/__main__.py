"""Entry point of ``python -m tsdi``, as ``accelerate launch -m tsdi`` starts processes."""

from tsdi.cli.main import run

run()
