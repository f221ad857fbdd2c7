"""vLLM's own server, debiased, under 500 mixed requests at once; run where vLLM is installed.

Requests ask for the server's strength, for none, or for half of it; half of them stream. Further
ones are left by their clients after the first tokens. Every answer is compared with transformers'
greedy text at that strength, but for spaces around it. Wrong arguments must get HTTP 400.
"""

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from transformers import PreTrainedTokenizerBase

from benchmarks.common import Claim, Report, parser, progress
from tsdi import Estimation, SafetyBias, estimate_bias
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.models.load import LoadOptions, load_model, load_tokenizer
from tsdi.suites.load import load_prompts

MODEL, TOKENS = "organism/aligned", 20
STRENGTH = 1.0  # of requests that name none
STRENGTHS = (None, 0.0, 0.5)  # None is the server's own
PROMPTS, LEFT = 125, 60


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--requests", type=int, default=500)
    arguments = made.parse_args()
    count = 60 if arguments.quick else arguments.requests
    settings = {"model": MODEL, "requests": count, "left": LEFT, "tokens": TOKENS}
    report = Report("serving", arguments, settings)
    tokenizer = load_tokenizer(MODEL)
    texts = [p.messages[-1]["content"] for p in load_prompts("organism:test", 0).prompts]
    texts = texts[:: len(texts) // PROMPTS][:PROMPTS]
    with tempfile.TemporaryDirectory() as folder:
        bias = organism_bias(tokenizer, Path(folder) / "bias")
        expected = _expected(tokenizer, bias, texts)
        progress("serving: expected answers are there")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = _start(Path(folder) / "bias", port)
        try:
            found = asyncio.run(_ask_all(server, port, texts, count))
        finally:
            server.terminate()
            server.wait(60)
    wrong = [
        (text, strength, number)
        for (text, strength, number), answer in found.answers.items()
        if answer is not None and answer.strip() != expected[text, strength].strip()
    ]
    lost = sum(answer is None for answer in found.answers.values())
    changed = sum(expected[text, None] != expected[text, 0.0] for text in texts)
    claims = [
        Claim("requests at once", count, low=None if arguments.quick else 500),
        Claim("answers that are wrong", len(wrong), high=0),
        Claim("answers that are lost", lost, high=0),
        Claim("requests that their clients left", found.left, low=1),
        Claim("wrong arguments answered with 400", found.refused, low=3, high=3),
        Claim("prompts whose answer the bias changes", changed, low=1),
    ]
    report.write(claims, {"seconds": round(found.seconds, 1), "wrong": wrong})


def organism_bias(tokenizer: PreTrainedTokenizerBase, folder: Path) -> SafetyBias:
    """The bias of the shipped pair, estimated and saved."""
    options = LoadOptions("float32")
    aligned, reference = (
        load_model(f"organism/{name}", options) for name in ("aligned", "reference")
    )
    settings = Estimation(prompts=256, steps=16, prompt_tokens=8, pool="tokenizer")
    bias = estimate_bias(aligned, reference, tokenizer, settings)
    bias.save_pretrained(folder)
    return bias


def _expected(
    tokenizer: PreTrainedTokenizerBase, bias: SafetyBias, texts: list[str]
) -> dict[tuple[str, float | None], str]:
    """Transformers' answers by prompt and strength."""
    model = load_model(MODEL, LoadOptions("float32"))
    engine = TransformersEngine(model, tokenizer, bias, STRENGTH)
    found: dict[tuple[str, float | None], str] = {}
    for strength in STRENGTHS:
        requests = [Request(Request.from_text(text).messages, strength) for text in texts]
        answers = engine.generate(requests, Sampling(max_new_tokens=TOKENS))
        found |= {(text, strength): a.text for text, a in zip(texts, answers, strict=True)}
    return found


def _start(bias: Path, port: int) -> "subprocess.Popen[bytes]":
    command = [str(Path(sys.executable).with_name("tsdi")), "serve", MODEL, "--bias", str(bias)]
    command += ["--strength", str(STRENGTH), "--engine", "vllm", "--port", str(port), "--"]
    command += ["--dtype", "float32", "--max-model-len", "64", "--enforce-eager"]
    command += ["--max-num-seqs", "64", "--generation-config", "vllm"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@dataclass(frozen=True)
class Served:
    """What the server did.

    Attributes:
        answers: By prompt, strength and number of the request; None if there was an error.
        left: Requests that their clients left.
        refused: Requests with wrong arguments that got HTTP 400.
        seconds: What all answers took.
    """

    answers: dict[tuple[str, float | None, int], str | None]
    left: int
    refused: int
    seconds: float


async def _ask_all(
    server: "subprocess.Popen[bytes]", port: int, texts: list[str], count: int
) -> Served:
    url = f"http://127.0.0.1:{port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=300) as api:
        while True:
            if server.poll() is not None:
                raise RuntimeError("The server has ended.")
            try:
                await api.models.list()
                break
            except openai.APIError:
                await asyncio.sleep(0.5)
        progress("serving: the server is up")
        began = time.perf_counter()
        jobs, keys = [], []
        for number in range(count):
            text, strength = texts[number % len(texts)], STRENGTHS[number % len(STRENGTHS)]
            keys.append((text, strength, number))
            jobs.append(_ask(api, text, strength, stream=number % 2 == 0))
        left = [_leave(api, texts[number % len(texts)]) for number in range(LEFT)]
        answers, gone = await asyncio.gather(
            asyncio.gather(*jobs, return_exceptions=True), asyncio.gather(*left)
        )
        seconds = time.perf_counter() - began
        refused = 0
        for arguments in ({"tsdi_strength": -1}, {"tsdi_strength": "much"}, {"tsdi_strenght": 1}):
            try:
                await _create(api, texts[0], arguments, stream=False)
            except openai.BadRequestError as error:
                progress(f"serving: {error.message[:110]}")
                refused += 1
    said = [None if isinstance(answer, BaseException) else answer for answer in answers]
    return Served(dict(zip(keys, said, strict=True)), sum(gone), refused, seconds)


async def _create(
    api: openai.AsyncOpenAI, text: str, arguments: dict[str, Any], *, stream: bool
) -> Any:
    return await api.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": text}],
        temperature=0,
        max_tokens=TOKENS,
        stream=stream,
        extra_body={"vllm_xargs": arguments} if arguments else {},
    )


async def _ask(api: openai.AsyncOpenAI, text: str, strength: float | None, *, stream: bool) -> str:
    arguments = {} if strength is None else {"tsdi_strength": strength}
    reply = await _create(api, text, arguments, stream=stream)
    if not stream:
        return str(reply.choices[0].message.content)
    return "".join([part.choices[0].delta.content or "" async for part in reply if part.choices])


async def _leave(api: openai.AsyncOpenAI, text: str) -> bool:
    """Ask, take the first part of the answer, and go."""
    reply = await _create(api, text, {}, stream=True)
    async for _ in reply:
        break
    await reply.close()
    return True


if __name__ == "__main__":
    main()
