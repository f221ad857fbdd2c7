"""``tsdi playground`` and ``tsdi chat``: plain and debiased answers side by side."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

import tsdi
from tsdi.cli import console, frame, options
from tsdi.errors import PromptError

if TYPE_CHECKING:  # keeps torch out of the help
    from tsdi.playground import Both
    from tsdi.playground.side_by_side import Answer

_WIDE = 60  # columns of a terminal, from which on two answers stand beside each other
_FIRST = 4  # tokens

Model = Annotated[str, typer.Argument(help="Folder or hub id of the model.")]
Bias = Annotated[str, typer.Option(help="Folder or hub id of its safety bias.")]
Strength = Annotated[
    float | None,
    typer.Option(
        help="How much of it; default: by its condition, else what the bias recommends, else 1."
    ),
]
Low = Annotated[float | None, typer.Option(help="Strength where the condition sees harm.")]
High = Annotated[float | None, typer.Option(help="Strength where the condition sees none.")]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Response tokens that it changes; default: all it has.")
]


def playground(
    model: Model,
    bias: Bias,
    strength: Strength = None,
    low: Low = None,
    high: High = None,
    steps: Steps = None,
    max_new_tokens: options.MaxNewTokens = 128,
    prompt: Annotated[str, typer.Option(help="The prompt to begin with.")] = "",
    prompts: Annotated[
        str,
        typer.Option(
            metavar="WHAT", help="Ready-made prompts, one of each kind and category: FILE or SUITE."
        ),
    ] = "everyday",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The page's port.")] = 7860,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    """Open a page in your browser: plain and debiased answers, side by side as they come.

    It is for this machine only, and loads nothing from elsewhere. tsdi chat is the same in the
    terminal.

    Example: tsdi playground acme/model --bias my-bias
    """
    frame.find(model, bias=bias, prompts=[prompts])
    console.quiet_libraries()
    page = tsdi.playground.playground(
        model,
        bias,
        setting=tsdi.playground.Setting(strength, low, high, steps, max_new_tokens),
        prompt=prompt,
        prompts=prompts,
        port=port,
        options=tsdi.LoadOptions(dtype, device_map, trust_remote_code),
    )
    page.run(lambda: console.say(f"Open {page.url} in a browser. Ctrl-C ends it."))


def chat(
    model: Model,
    bias: Bias,
    strength: Strength = None,
    low: Low = None,
    high: High = None,
    steps: Steps = None,
    max_new_tokens: options.MaxNewTokens = 128,
    prompt: Annotated[
        str | None, typer.Option(help="One prompt; default: line by line from the terminal.")
    ] = None,
    dtype: options.Dtype = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Answer prompts plainly and debiased, side by side as they come, in the terminal.

    Each line is a question by itself; nothing of an earlier one is remembered. Ctrl-C stops an
    answer. Underlined is what the subtraction makes likelier, struck through what it makes less
    likely.

    Example: tsdi chat acme/model --bias my-bias --strength 0.5
    """
    frame.find(model, bias=bias)
    console.quiet_libraries()
    setting = tsdi.playground.Setting(strength, low, high, steps, max_new_tokens)
    weights = tsdi.LoadOptions(dtype, device_map, trust_remote_code)
    engine = tsdi.playground.open_side_by_side(model, bias, setting, weights)
    for text in _lines() if prompt is None else [prompt]:
        try:
            answers = engine.answer(text, engine.start, Event())
            found = _watched(answers, shown=console.out.is_terminal and not json)
        except PromptError as error:
            if prompt is not None:
                raise
            console.note(str(error))
            continue
        if json:
            console.show_json({"prompt": text, **asdict(found)})
        else:
            console.out.print(_shown(found))


def _lines() -> Iterator[str]:
    """Lines of standard input, with a sign on a terminal that one is waited for."""
    asked = sys.stdin.isatty()
    if asked:
        console.note("Ask on a line. Ctrl-D ends it.")
    while True:
        try:
            line = input("> " if asked else "")
        except EOFError:
            return
        if line.strip():
            yield line


def _watched(answers: Iterable["Both"], shown: bool) -> "Both":
    """The last of growing answers, drawn as they grow; Ctrl-C ends them."""
    found = None
    try:
        with Live(console=console.out, transient=True, auto_refresh=False) as live:
            for found in answers:
                if shown:
                    live.update(_shown(found), refresh=True)
    except KeyboardInterrupt:
        if found is None:
            raise
        console.note("Stopped.")
    assert found is not None
    return found


def _shown(found: "Both") -> Group:
    """Both answers beside each other, or below where there is no room, and what was read."""
    from tsdi.playground.markup import percent, read

    answers = {"Plain": found.plain, "Debiased": found.debiased}
    wide = console.out.width >= _WIDE
    table = Table.grid(padding=(0, 2), expand=True)
    for _ in answers if wide else [None]:
        table.add_column(ratio=1, overflow="fold")
    cells = [Text.assemble((name, "bold"), "\n", _marked(one)) for name, one in answers.items()]
    for row in [cells] if wide else [[one] for one in cells]:
        table.add_row(*row)
    likeliest = ", ".join(
        f"{one.text!r} {percent(one.before)} → {percent(one.after)}" for one in found.first[:_FIRST]
    )
    lines = [read(found), f"First tokens: {likeliest}"]
    return Group(table, *(console.styled((line, "dim")) for line in lines if line))


def _marked(answer: "Answer") -> Text:
    """An answer, with marks where the subtraction moves a token."""
    from tsdi.playground.markup import LEAST

    marks = [
        "" if abs(one.moved) < LEAST else "underline" if one.moved > 0 else "strike"
        for one in answer.tokens
    ]
    return console.styled(
        *((one.text, mark) for one, mark in zip(answer.tokens, marks, strict=True))
    )
