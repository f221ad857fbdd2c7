"""Every error that tsdi raises on purpose.

TsdiError                what, which and what to do, in one line
├── UsageError           an argument or an option that cannot be right
├── ModelError           a model or tokenizer that cannot be loaded or used
│   └── MismatchError    two things that must belong together do not
├── PoolError            a token pool that random prompts cannot be drawn from
├── PromptError          a prompt file or a prompt that cannot be used
├── FormatError          a file that tsdi cannot read as what it should be
├── RunExistsError       an output folder that is already in use
└── NumericalError       NaN or infinite numbers where finite ones are needed
"""


class TsdiError(Exception):
    """An error whose message tells the user what to do; the command line prints it on one line.

    Args:
        problem: What is wrong, and with which input.
        remedy: What the user can do about it.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(" ".join(f"{problem} {remedy}".split()))


class UsageError(TsdiError):
    """An argument or an option that cannot be right."""


class ModelError(TsdiError):
    """A model or tokenizer that cannot be loaded or used."""


class MismatchError(ModelError):
    """Two things that must belong together, such as a model and a bias, do not."""


class PoolError(TsdiError):
    """A token pool that random prompts cannot be drawn from."""


class PromptError(TsdiError):
    """A prompt file, or a prompt in it, that cannot be used."""


class FormatError(TsdiError):
    """A file that is not in the format that tsdi expects."""


class RunExistsError(TsdiError):
    """An output folder that already holds results."""


class NumericalError(TsdiError):
    """NaN or infinite numbers where finite ones are needed."""
