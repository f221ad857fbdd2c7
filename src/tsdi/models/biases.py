"""Where a bias is: its folder or hub commit, found without torch."""

from tsdi.errors import FormatError, ModelError
from tsdi.models.names import Place, locate

CONFIG_FILE = "bias_config.json"
NO_BIAS = "Give a folder made by 'tsdi estimate', or a hub id."


def locate_bias(name: str) -> Place:
    """Find the folder of a bias, or the commit that "ORG/NAME[@REVISION]" is on the hub now.

    Raises:
        FormatError: If there is none, or something else.
    """
    try:
        place = locate(name, NO_BIAS)
    except ModelError as error:
        raise FormatError(f"{name} holds no bias: {error.problem}", error.remedy) from None
    if CONFIG_FILE not in place.files:
        what = "it is a model" if "config.json" in place.files else f"it has no {CONFIG_FILE}"
        remedy = f"Its own is {name}/tsdi." if place.is_export else NO_BIAS
        raise FormatError(f"{name} holds no bias: {what}.", remedy)
    return place
