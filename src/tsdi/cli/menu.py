"""What a terminal offers once there is a bias to use: chat, save, push, serve."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import tsdi
from tsdi.cli import console, frame
from tsdi.cli.playground import chat
from tsdi.cli.serve import show_server
from tsdi.errors import RunExistsError, TsdiError, UsageError

if TYPE_CHECKING:  # keeps torch out of the help
    from tsdi import LoadOptions


def offer(model: str, bias: Path, options: "LoadOptions") -> None:
    """Ask what to do with a bias, and do it, until the user leaves.

    What goes wrong in an entry is said, and the menu comes again; Ctrl-C and Ctrl-D leave an entry
    for the menu, and then the menu.

    Args:
        model: The model that the bias is for.
        bias: The folder of the bias.
        options: How the model's weights are loaded.
    """
    entries: dict[str, Callable[[], None]] = {
        "chat: both answers to what you ask": lambda: chat(
            model, str(bias), dtype=options.dtype, device_map=options.device_map
        ),
        "save a copy of the bias": lambda: _save(bias),
        "push it to the Hugging Face hub": lambda: _push(bias),
        "serve it to programs on this machine": lambda: _serve(model, bias, options),
    }
    while entry := _chosen(entries):
        try:
            entry()
        except (EOFError, KeyboardInterrupt):
            console.say("")
        except (TsdiError, OSError) as error:
            if (line := frame.told(error)) is None:
                raise
            console.out.print(console.red(line))


def _chosen(entries: Mapping[str, Callable[[], None]]) -> Callable[[], None] | None:
    """The entry that the user names, by its number or its first word; None to leave."""
    names = [*entries, "quit"]
    console.say("\nWhat next?")
    for number, name in enumerate(names, start=1):
        console.say(f"  {number}  {name}")
    while True:
        try:
            said = input("> ").strip().lower()
        except (EOFError, KeyboardInterrupt):
            console.say("")
            return None
        for number, name in enumerate(names, start=1):
            if said in (str(number), name.split()[0].rstrip(":")):
                return entries.get(name)
        console.say(f"Give a number from 1 to {len(names)}.")


def _save(bias: Path) -> None:
    folder = Path(_asked("New folder: ")).expanduser()
    if folder.exists():
        raise RunExistsError(f"{folder} is there already.", "Name a new folder.")
    tsdi.SafetyBias.from_pretrained(bias).save_pretrained(folder)
    console.say(f"Saved in {folder}.")


def _push(bias: Path) -> None:
    from huggingface_hub import file_exists, get_token

    if get_token() is None:
        raise UsageError("You are not logged in to the hub.", "Run: hf auth login")
    name = _asked("Repository, such as acme/my-bias (a new one will be private): ")
    try:
        taken = file_exists(name, "config.json")
        where = (
            None if taken else tsdi.SafetyBias.from_pretrained(bias).push_to_hub(name, private=True)
        )
    except Exception as error:  # the hub and the network fail in many ways
        reason = console.one_line(str(error) or type(error).__name__, 200)
        raise TsdiError(f"Not pushed to {name}: {reason}") from None
    if where is None:
        raise UsageError(f"{name} holds a model.", "Push the bias to a repository of its own.")
    console.say(f"Pushed: {where}")


def _serve(model: str, bias: Path, options: "LoadOptions") -> None:
    engine = "vllm" if find_spec("vllm") else "transformers"
    server = tsdi.serving.serve(model, str(bias), engine=engine, options=options)
    server.run(lambda: show_server(server))


def _asked(question: str) -> str:
    """What the user says, once that is something."""
    while not (said := input(question).strip()):
        pass
    return said
