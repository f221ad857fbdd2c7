"""vLLM's own server: its settings, who may ask, and mixed requests that some clients leave."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.engines import cases
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine

pytestmark = pytest.mark.skipif("vllm" in cases.NOT_RUN, reason="vllm is not installed, so not run")
SMALL = ["--enforce-eager", "--max-num-seqs", "8", "--max-model-len", "64"]
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_API_KEY": "",
}
PROMPT = "the old mill"
CHAT = {"messages": [{"role": "user", "content": PROMPT}], "temperature": 0, "max_tokens": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint that asks for penalties, and its bias."""
    made = tmp_path_factory.mktemp("penalised")
    model = cases.model()
    model.generation_config.update(repetition_penalty=5.0, temperature=0.3, do_sample=True)
    model.save_pretrained(made)
    tiny.tokenizer().save_pretrained(made)
    tiny.bias(strength=1.5).save_pretrained(made / "bias")
    return made


@pytest.fixture(scope="module")
def url(folder):
    """The address of vLLM's server, as `tsdi serve` starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tsdi", "serve", folder, "--bias", folder / "bias"]
    command += ["--dtype", "float32", "--port", port, "--", *SMALL]
    log = (folder / "log").open("w")
    server = subprocess.Popen(
        list(map(str, command)), env=os.environ | ENVIRONMENT, stdout=log, stderr=log
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 900
        while _ask(f"{address}/health")[0] != 200:
            assert server.poll() is None, (folder / "log").read_text()[-3000:]
            assert time.monotonic() < until
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(60)
        log.close()


def _ask(url, body=None, **headers):
    """Status and body of a reply; (0, None) where nothing listens."""
    import httpx

    try:
        reply = httpx.request("GET" if body is None else "POST", url, json=body, headers=headers,
                              timeout=120)  # fmt: skip
    except httpx.ConnectError:
        return 0, None
    return reply.status_code, reply.json() if body is not None and reply.is_success else None


def _truth(**sampling):
    engine = TransformersEngine(cases.model(), tiny.tokenizer(), tiny.bias(), 1.5)
    return engine.generate([Request.from_text(PROMPT)], Sampling(8, **sampling))[0]


def test_a_checkpoints_penalties_change_nothing_served_or_offline(url, folder):
    status, reply = _ask(f"{url}/v1/chat/completions", CHAT | {"model": str(folder)})
    assert status == 200
    served = reply["choices"][0]["message"]["content"]
    offline = subprocess.run(
        [sys.executable, "-m", "tsdi", "generate", folder, "--bias", folder / "bias", "--prompt",
         PROMPT, "--max-new-tokens", "8", "--engine", "vllm", "--dtype", "float32", "--json"],
        env=os.environ | ENVIRONMENT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert offline.returncode == 0, offline.stderr[-2000:]
    answered = json.loads(offline.stdout)["response"]
    assert answered.strip() == _truth().text.strip()
    assert served.strip() == answered.rstrip("\ufffd").strip()  # vLLM leaves half a character out
    own = _ask(
        f"{url}/v1/chat/completions", CHAT | {"model": str(folder), "repetition_penalty": 5.0}
    )[1]
    assert own["choices"][0]["message"]["content"] != served, "the penalty would have mattered"


def test_served_log_probabilities_are_the_debiased_models(url, folder):
    asked = {"model": str(folder), "logprobs": True, "top_logprobs": 5}
    reply = _ask(f"{url}/v1/chat/completions", CHAT | asked)[1]
    tops = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    truth = _truth(keep_logits=True).logits[0].log_softmax(-1).topk(5).values
    found = torch.tensor([top["logprob"] for top in tops])
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-3)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/invocations"])
@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
)
def test_pages_of_other_sites_are_turned_away(url, folder, path, headers):
    assert _ask(url + path, CHAT | {"model": str(folder)}, **headers)[0] == 403


def test_every_answer_is_that_of_transformers_at_its_strength(tmp_path):
    command = [sys.executable, "-m", "benchmarks.serving", "--quick", "--out", tmp_path / "x.json"]
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        list(map(str, command)), cwd=root, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    claims = json.loads((tmp_path / "x.json").read_text())["claims"]
    assert len(claims) == 6
    assert [claim["name"] for claim in claims if not claim["met"]] == []
