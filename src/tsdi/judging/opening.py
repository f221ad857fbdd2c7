"""Opening a judge of a format: with weights loaded here, or on a server."""

from tsdi.errors import UsageError
from tsdi.judging.base import Judge, JudgeOptions
from tsdi.judging.format import Format


def open_format(form: Format, options: JudgeOptions) -> Judge:
    """Open the judge of a format: on a server if there is a URL, else with weights here.

    With a URL the model is asked there; without, its weights are loaded.

    Raises:
        UsageError: If the format has no weights of its own, and none are named.
        ModelError: If the model cannot be loaded, or does not know the format.
    """
    model = options.model or form.weights
    if not model:
        raise UsageError(f"The judge {form.name} needs a model.", f"Name it: {form.name}=MODEL.")
    if options.url is not None:
        from tsdi.engines.openai import ChatClient
        from tsdi.judging.served import ServedJudge

        return ServedJudge(form, ChatClient(model, options.url))
    from tsdi.judging.model import open_model_judge  # loads torch

    return open_model_judge(form, options)
