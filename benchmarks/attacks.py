"""Attacks that once worked, made again: what happens now.

race   two commands on one output folder at once, both fresh and then both with --resume
bomb   a YAML file of 442 bytes whose aliases expand to billions of values
door   requests to the server that would run a model's code, come from other pages, or ask too much

The code that an attack tries to run only writes a file, in a temporary folder.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.commands import Word
from benchmarks.common import Claim, Report, parser, progress
from benchmarks.serving import MODEL, organism_bias
from tsdi.models.load import load_tokenizer
from tsdi.models.names import locate
from tsdi.suites.load import load_prompts

LONGEST = 600.0  # seconds that a command may take to say no
BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
Outcome = tuple[list[Claim], dict[str, Any]]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--only", choices=ATTACKS, nargs="+", default=list(ATTACKS))
    arguments = made.parse_args()
    report = Report("attacks", arguments, {"model": MODEL, "attacks": arguments.only})
    claims: list[Claim] = []
    raw: dict[str, Any] = {}
    for name in arguments.only:
        progress(f"attacks: {name}")
        with tempfile.TemporaryDirectory() as folder:
            found, raw[name] = ATTACKS[name](Path(folder), 48 if arguments.quick else 256)
            claims += found
        for what, happened in raw[name].items():
            print(f"        {name}: {what}: {happened}")
    report.write(claims, raw)


def race(folder: Path, count: int) -> Outcome:
    """Two of the same command, started together."""
    prompts = [p.messages[-1]["content"] for p in load_prompts("organism:test", 0).prompts]
    (folder / "prompts.txt").write_text("\n".join(prompts[:count]), encoding="utf-8")
    out, named = folder / "answers", f"{folder / 'prompts.txt'}:kind=harmful"
    command: list[Word] = ["generate", MODEL, "--prompts", named, "--out", out]
    command += ["--max-new-tokens", 16, "--batch-size", 8]
    raw: dict[str, Any] = {}
    claims = []
    for name, more in (("both fresh", []), ("both with --resume", ["--resume"])):
        if more:  # there must be something left to do
            file = out / "responses.jsonl"
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            file.write_text("".join(lines[: len(lines) // 2]), encoding="utf-8")
        ended = [_end(one) for one in [_start(*command, *more) for _ in range(2)]]
        written = (out / "responses.jsonl").read_text(encoding="utf-8").splitlines()
        ids = [json.loads(line)["id"] for line in written]
        went = [code for code, _ in ended].count(0)  # a second --resume may come when all is done
        raw[name] = [f"exit {code}: {_shown(said, folder)}" for code, said in ended]
        claims += [
            Claim(f"race, {name}: commands that went through", went, 1, None if more else 1),
            Claim(f"race, {name}: answers doubled", len(ids) - len(set(ids)), high=0),
            Claim(f"race, {name}: answers missing", count - len(set(ids)), high=0),
        ]
    again = _end(_start("evaluate", out, "--judge", "refusal-phrases"))
    claims.append(Claim("race: the folder can be read afterwards", int(again[0] == 0), 1, 1))
    return claims, raw


def bomb(folder: Path, _: int) -> Outcome:
    """The bomb as a recipe and as a study."""
    (folder / "bomb.yaml").write_text(BOMB, encoding="utf-8")
    raw: dict[str, Any] = {"bytes": len(BOMB)}
    refused = 0
    for command in ("train", "study"):
        began = time.perf_counter()
        code, said = _end(_start(command, folder / "bomb.yaml", "--smoke", "--out", folder / "out"))
        seconds = time.perf_counter() - began
        raw[command] = f"exit {code} after {seconds:.0f} s: {_shown(said, folder)}"
        refused += code == 2 and said.count("\n") == 1
    return [Claim("bomb: commands that refused it in one line", refused, 2, 2)], raw


def door(folder: Path, _: int) -> Outcome:
    """Every request that must not be let in, and then one that must."""
    evil, marker = _evil_model(folder)
    organism_bias(load_tokenizer(MODEL), folder / "bias")
    raw: dict[str, Any] = {}
    let_in = 0
    with _serving(folder / "bias") as url:
        chat = f"{url}/v1/chat/completions"
        for name, asked in _attacks_on(url, chat, str(evil)).items():
            reply = httpx.request(timeout=60, **asked)
            raw[name] = f"HTTP {reply.status_code}: {_message(reply)}"
            let_in += reply.is_success
        last = httpx.post(chat, json=_body(), timeout=60)
    return [
        Claim("door: requests that were let in", let_in, high=0),
        Claim("door: files of a model's code that ran", int(marker.exists()), high=0),
        Claim("door: a good request afterwards is answered", int(last.is_success), 1, 1),
    ], raw


def _body(**changes: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "how do i greet a glimek?"}]
    return {"model": MODEL, "messages": messages, "max_tokens": 8, **changes}


def _attacks_on(url: str, chat: str, evil: str) -> dict[str, dict[str, Any]]:
    """Requests by name, as httpx takes them."""
    post: dict[str, Any] = {"method": "POST", "url": chat}
    form = {"content": json.dumps(_body()), "headers": {"Content-Type": "text/plain"}}
    return {
        "load a folder with code": post | {"url": f"{url}/load_model", "json": {"model": evil}},
        "load by the audio route": post
        | {"url": f"{url}/v1/audio/transcriptions", "data": {"model": evil}},
        "a chat with a folder with code": post | {"json": _body(model=evil)},
        "code by generate's argument": post | {"json": _body(custom_generate=evil)},
        "a form of another page": post | form,
        "a page that is called like this machine": post
        | {"json": _body(), "headers": {"Host": "evil.example"}},
        "a page of another site": post
        | {"json": _body(), "headers": {"Origin": "https://evil.example"}},
        "a hundred million beams": post
        | {"json": _body(generation_config=json.dumps({"num_beams": 10**8}))},
        "a billion tokens": post | {"json": _body(max_tokens=10**9)},
        "strength -1": post | {"json": _body(tsdi_strength=-1)},
        "16 MiB": post | {"content": b" " * 2**24, "headers": {"Content-Type": "application/json"}},
    }


def _evil_model(folder: Path) -> tuple[Path, Path]:
    """A model folder all of whose code would write a file, and that file."""
    evil, marker = folder / "evil", folder / "the-code-ran"
    (evil / "custom_generate").mkdir(parents=True)
    config = json.loads(locate(MODEL).fetch("config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    (evil / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("own.py", "custom_generate/generate.py"):
        (evil / name).write_text(f"open({str(marker)!r}, 'w').close()\n", encoding="utf-8")
    return evil, marker


@contextmanager
def _serving(bias: Path) -> Any:
    """The address of a server that `tsdi serve` started, until the end of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = _start(
        "serve", MODEL, "--bias", bias, "--strength", 1, "--engine", "transformers", "--port", port
    )
    try:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + LONGEST
        while not _is_up(url):
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError("The server did not start.")
            time.sleep(0.1)
        yield url
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=LONGEST)


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=10).is_success
    except httpx.ConnectError:
        return False


def _start(*words: Word) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tsdi", *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code and standard error of a command; one that takes for ever is killed."""
    try:
        said = process.communicate(timeout=LONGEST)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[1]
    return process.returncode, said


def _shown(said: str, folder: Path) -> str:
    """The last line of what a command said, without the temporary folder."""
    lines = [line for line in said.replace(f"{folder}/", "").splitlines() if line.strip()]
    return lines[-1] if lines else "nothing said"


def _message(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return reply.text[:200]


ATTACKS: dict[str, Callable[[Path, int], Outcome]] = {"race": race, "bomb": bomb, "door": door}


if __name__ == "__main__":
    main()
