"""The entry point `inspect_ai`, by which Inspect finds the provider, tasks and scorers."""

from inspect_ai.model import ModelAPI, modelapi

import tsdi.harness.inspect_scorers
import tsdi.harness.inspect_tasks  # noqa: F401  # these two register what they hold


@modelapi(name="tsdi")
def provider() -> type[ModelAPI]:
    """The provider of `--model tsdi/MODEL`; torch is loaded only where it is used."""
    from tsdi.harness.inspect_model import TsdiAPI

    return TsdiAPI
