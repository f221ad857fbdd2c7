"""The playground's page, by gradio, and the server that shows it to this machine alone."""

import asyncio
import math
import os
import shlex
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from threading import Event
from typing import Any

from tsdi.arguments import Name, as_name
from tsdi.errors import TsdiError, UsageError
from tsdi.models.load import LoadOptions
from tsdi.playground.markup import STYLE, both, escaped, problem
from tsdi.playground.side_by_side import Setting, SideBySide, open_side_by_side
from tsdi.suites.load import EVERYDAY, load_prompts
from tsdi.suites.prompts import Prompt

HOST = "127.0.0.1"
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none';"
    " form-action 'self'; base-uri 'self'"
)
"""What the page may load: from this server, and from nowhere else."""
_WIDEST = 3.0  # of a slider, unless the setting is beyond
_CHOICE = "Let the condition set the strength"
_TO_ANSWERS = """() => {
  if (innerWidth < 640) document.getElementById("answers").scrollIntoView();
}"""  # which are below the controls on a phone


@dataclass(frozen=True)
class Asked:
    """What a playground is opened with: model, bias, first prompt, ready-made prompts."""

    model: str
    bias: str
    prompt: str = ""
    prompts: str = EVERYDAY


@dataclass(frozen=True)
class Page:
    """A page that is ready to run.

    Attributes:
        place: The bound socket.
        app: The ASGI app.
    """

    place: socket.socket
    app: Any

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.place.getsockname()[1]}"

    def run(self, ready: Callable[[], None]) -> None:
        """Serve until interrupted; `ready` is called first."""
        from tsdi.serving.app import run

        with self.place:
            ready()
            run(self.app, self.place)


def playground(
    model: Name,
    bias: Name,
    *,
    setting: Setting = Setting(),
    prompt: str = "",
    prompts: Name = EVERYDAY,
    port: int = 7860,
    options: LoadOptions = LoadOptions(),
) -> Page:
    """A page on this machine that answers prompts plainly and debiased, side by side.

    Args:
        model: Folder, hub id or shipped name of the model.
        bias: Folder or hub id of its safety bias.
        setting: Setting to start with.
        prompt: Prompt to start with.
        prompts: Where the ready-made prompts come from, one of each kind and category.
        port: Port to listen on; 0 takes a free one.
        options: Options of loading the weights.

    Raises:
        UsageError: If gradio is not installed, the port is taken, or the setting does not fit.
        TsdiError: If anything cannot be loaded or does not fit.
    """
    names = as_name("model", model), as_name("bias", bias)
    asked = Asked(*names, prompt, as_name("prompts", prompts))
    if find_spec("gradio") is None:
        raise UsageError("gradio is not installed.", "Run: pip install 'tsdi[playground]'")
    from tsdi.serving.app import bind

    place = bind(HOST, port)  # before the model is loaded
    try:
        ready = examples(load_prompts(asked.prompts, 0).prompts)
        engine = open_side_by_side(asked.model, asked.bias, setting, options)
        return Page(place, make_app(engine, asked, ready))
    except BaseException:
        place.close()
        raise


def examples(prompts: list[Prompt]) -> list[tuple[str, str]]:
    """The first prompt of each kind and category, with a label; single messages alone."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for one in prompts:
        if len(one.messages) == 1:
            text = one.messages[0]["content"]
            label = f"{one.kind}: {text}" if one.kind else text
            found.setdefault((one.kind, one.category), (label, text))
    return list(found.values())


def command_line(asked: Asked, setting: Setting, usual: Setting, prompt: str) -> str:
    """The command that opens a page with this setting and prompt.

    Args:
        asked: Model, bias and ready-made prompts.
        setting: The setting, complete.
        usual: What the bias itself would set, complete; it needs no option.
        prompt: The prompt.
    """
    words = ["tsdi", "playground", asked.model, "--bias", asked.bias]
    if asked.prompts != EVERYDAY:
        words += ["--prompts", asked.prompts]
    for name in ("strength", "low", "high", "steps", "max_new_tokens"):
        value = getattr(setting, name)
        if value is not None and value != getattr(usual, name):
            words += [f"--{name.replace('_', '-')}", f"{value:g}"]
    return shlex.join([*words, *(["--prompt", prompt] if prompt else [])])


def described(setting: Setting) -> str:
    """A complete setting in words."""
    if setting.strength is not None:
        used = f"Strength {setting.strength:g}"
    else:
        used = f"Strength by the condition, {setting.low:g} to {setting.high:g}"
    return f"{used}, at the first {setting.steps} tokens."


class Talk:
    """Answers for the page's visitors, one at a time, each of which can be stopped."""

    def __init__(self, engine: SideBySide, asked: Asked) -> None:
        self._engine, self._asked = engine, asked
        self._usual = engine.complete(Setting())
        self._running: dict[str, Event] = {}

    def answer(self, visitor: str, prompt: str, setting: Setting) -> Iterator[tuple[str, str]]:
        """The page's HTML as both answers grow, each with the setting as a command line."""
        stop = self._running[visitor] = Event()
        try:
            setting = self._engine.complete(setting)
            command = command_line(self._asked, setting, self._usual, prompt)
            for found in self._engine.answer(prompt, setting, stop):
                yield both(found, described(setting)), command
        except TsdiError as error:
            yield problem(str(error)), ""
        finally:
            stop.set()
            if self._running.get(visitor) is stop:
                del self._running[visitor]

    def stop(self, visitor: str) -> None:
        """End a visitor's answers at the next token."""
        if (running := self._running.get(visitor)) is not None:
            running.set()


def make_app(engine: SideBySide, asked: Asked, ready: list[tuple[str, str]]) -> Any:
    """The page as an ASGI app, for browsers on this machine; it loads nothing from elsewhere."""
    return asyncio.run(_make_app(engine, asked, ready))


async def _make_app(engine: SideBySide, asked: Asked, ready: list[tuple[str, str]]) -> Any:
    # Where no event loop runs, gradio makes some and leaves them open.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # is read when gradio is imported
    import gradio
    from fastapi import FastAPI
    from starlette.middleware import Middleware

    from tsdi.serving.access import Door

    fonts: dict[str, Any] = {
        "font": ["system-ui", "sans-serif"],
        "font_mono": ["ui-monospace", "monospace"],
    }
    silent: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    app = FastAPI(middleware=[Middleware(Door), Middleware(_Headers)], **silent)
    return gradio.mount_gradio_app(
        app,
        _blocks(engine, asked, ready).queue(default_concurrency_limit=1, api_open=False),
        path="/",
        server_name=HOST,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        app_kwargs=silent,
        theme=gradio.themes.Base(**fonts),
        css=STYLE,
    )


class _Headers:
    """Adds the content security policy to every response."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY.encode())
                message = {**message, "headers": [*message["headers"], policy]}
            await send(message)

        await self._app(scope, receive, sent)


def _blocks(engine: SideBySide, asked: Asked, ready: list[tuple[str, str]]) -> Any:
    """The components of the page, and what happens when they are used."""
    import gradio

    talk = Talk(engine, asked)
    with gradio.Blocks(title="tsdi playground", analytics_enabled=False) as blocks:
        gradio.HTML(_head(asked))
        prompt = gradio.Textbox(
            asked.prompt, label="Prompt", max_lines=8, autofocus=True, elem_id="prompt",
            info="Enter asks, Shift and Enter begin a new line.",
        )  # fmt: skip
        chosen = gradio.Dropdown(
            ready, value=None, label="Ready-made prompts", elem_id="ready", filterable=True
        )
        with gradio.Row():
            ask = gradio.Button("Answer", variant="primary", elem_id="ask", min_width=120)
            stop = gradio.Button("Stop", variant="stop", elem_id="stop", min_width=120)
        _, *sliders = controls = _controls(engine)
        stood = gradio.State([float(one.value) for one in sliders])
        shown = gradio.HTML(elem_id="answers")
        command = gradio.Textbox(
            label="This setting as a command line", interactive=False, buttons=["copy"],
            elem_id="command", max_lines=4,
        )  # fmt: skip

        def answer(
            text: str, by: bool, strength: float, low: float, high: float, steps: float,
            request: gradio.Request,
        ) -> Iterator[tuple[str, str]]:  # fmt: skip
            wanted = Setting(
                strength=None if by else strength,
                low=low if by else None,
                high=high if by else None,
                steps=int(steps),
                max_new_tokens=engine.start.max_new_tokens,
            )
            yield from talk.answer(request.session_hash or "", text, wanted)

        def end(request: gradio.Request) -> None:
            talk.stop(request.session_hash or "")

        quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
        quiet |= {"api_visibility": "private", "trigger_mode": "multiple"}
        stop.click(end, **quiet)
        # Gradio says "input" and "release" of what the Tab key merely passes, too: what counts is
        # whether a value has changed.
        chosen.change(lambda text: text, chosen, prompt, **quiet).then(end, **quiet)
        let_go = [one.release for one in sliders]
        gradio.on(
            let_go, lambda *values: [*map(float, values)], sliders, stood,
            **{**quiet, "queue": True},  # outside of the queue a State has no "change"
        )  # fmt: skip
        gradio.on([ask.click, prompt.submit], js=_TO_ANSWERS, **quiet)
        gradio.on([ask.click, prompt.submit, stood.change], end, **quiet).then(
            answer, [prompt, *controls], [shown, command],
            show_progress="hidden", api_visibility="private", trigger_mode="multiple",
        )  # fmt: skip
    return blocks


def _head(asked: Asked) -> str:
    return (
        '<section class="tsdi"><h1>Plain and debiased, side by side</h1>'
        f'<p class="note"><code>{escaped(asked.model)}</code>, with the bias'
        f" <code>{escaped(asked.bias)}</code> subtracted. A debiased model refuses less,"
        " harmful requests too: measure that (tsdi evaluate, tsdi compare) before anybody"
        " else is to use it.</p></section>"
    )


def _controls(engine: SideBySide) -> list[Any]:
    """Who sets the strength, the strength, low, high and steps."""
    import gradio

    start, condition = engine.start, engine.bias.condition
    by = condition is not None and start.strength is None

    def slider(label: str, value: float, least: float, shown: bool) -> Any:
        most = max(_WIDEST, math.ceil(value))
        return gradio.Slider(
            min(least, math.floor(value)), most, value, step=0.05, label=label, visible=shown,
            elem_id=label.partition(" ")[0].lower(), buttons=[],
        )  # fmt: skip

    choice = gradio.Checkbox(by, label=_CHOICE, visible=condition is not None, elem_id="by")
    with gradio.Row():
        one = 1.0 if start.strength is None else start.strength
        strength = slider("Strength", one, 0.0, not by)
        set_by = engine.condition(start)
        low = slider("Low strength, for harmful prompts", set_by.low if set_by else 0, -_WIDEST, by)
        high = slider(
            "High strength, for harmless prompts", set_by.high if set_by else 1, -_WIDEST, by
        )
        steps = gradio.Slider(
            1, engine.bias.steps, start.steps, step=1, label="Steps, response tokens",
            elem_id="steps", buttons=[],
        )  # fmt: skip

    def show(by: bool) -> list[Any]:
        return [gradio.update(visible=shown) for shown in (not by, by, by)]

    choice.input(
        show, choice, [strength, low, high], queue=False, show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip
    return [choice, strength, low, high, steps]
