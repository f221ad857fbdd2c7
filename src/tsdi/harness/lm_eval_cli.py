"""lm_eval's command line with the model `tsdi-hf`: python -m tsdi.harness.lm_eval_cli.

lm_eval has no entry points for models: it knows those in its own table and what was imported before
its command line runs.
"""

import sys

from tsdi.errors import TsdiError


def main() -> None:
    """Run lm_eval on the arguments of this process; errors of tsdi are one line, exit code 2."""
    try:
        from lm_eval.__main__ import cli_evaluate

        import tsdi.harness.lm_eval_model  # noqa: F401  # registers the model
    except ImportError as error:
        sys.exit(f"Error: lm_eval cannot be loaded ({error}). Run: pip install 'tsdi[lm-eval]'")
    try:
        cli_evaluate()
    except TsdiError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
