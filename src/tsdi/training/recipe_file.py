"""Reading recipes."""

from pathlib import Path

from tsdi.training.monitor_log import MonitorSettings
from tsdi.training.recipe import (
    Cleanse,
    HeldOut,
    Lora,
    Merge,
    Model,
    NewModel,
    OwnSamples,
    Preference,
    Recipe,
    Sft,
    Source,
)
from tsdi.yaml_file import field_names, read_settings

_PARTS = (NewModel, Model, Source, HeldOut, Lora, Cleanse, Sft, Preference, OwnSamples)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        UsageError: If PyYAML is not installed.
        FormatError: If the file cannot be read or is no recipe; it names line and key.
    """
    keys = field_names(*_PARTS, MonitorSettings, Merge, Recipe)
    return read_settings(path, Recipe, keys, "train")
