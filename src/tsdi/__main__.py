"""``python -m tsdi``, which is how ``accelerate launch -m tsdi`` starts every process."""

from tsdi.cli.main import run

run()
