"""Real engines from the command line: 200 answers of the organism are transformers' own."""

import json
import os
import subprocess
import sys

import pytest

from tests.cli.conftest import tsdi
from tests.engines import cases
from tests.engines.gguf_file import write_gguf
from tsdi import Estimation, SafetyBias, estimate_bias, organism
from tsdi.models import shipped
from tsdi.models.load import LoadOptions, load_model, load_tokenizer

PROMPTS = 200


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A bias, 200 prompts, and the answers of transformers with and without the bias."""
    if {"vllm", "llama.cpp"}.issubset(cases.NOT_RUN):
        pytest.skip("neither vllm nor llama.cpp is installed, so not run; see make test-engines")
    folder = tmp_path_factory.mktemp("organism")
    pair = [
        load_model(str(shipped.folder(name)), LoadOptions("float32"))
        for name in ("aligned", "reference")
    ]
    tokenizer = load_tokenizer(str(shipped.folder("aligned")))
    bias = estimate_bias(
        *pair, tokenizer, Estimation(prompts=64, steps=16, prompt_tokens=8, pool="tokenizer")
    )
    update = {"aligned": "organism/aligned", "strength": 1.0}
    info = bias.info.model_copy(update=update)
    SafetyBias(bias.values, bias.standard_error, info).save_pretrained(folder / "bias")
    if "llama.cpp" not in cases.NOT_RUN:
        write_gguf(folder / "organism.gguf", pair[0], tokenizer)
    items = organism.items("test", "lookalike", PROMPTS, 0)
    (folder / "prompts.txt").write_text("\n".join(item.prompt for item in items))
    for name, more in (("plain", []), ("debiased", ["--bias", folder / "bias"])):
        result = tsdi(*command("organism/aligned", folder, folder / name, *more))
        assert result.exit_code == 0, result.output
    return folder


def command(model, folder, out, *more):
    asked = ["--prompts", folder / "prompts.txt", "--max-new-tokens", 16, "--batch-size", 40]
    return ["generate", model, *asked, "--out", out, *more]


def answers(folder):
    lines = (folder / "responses.jsonl").read_text().splitlines()
    return [json.loads(line)["response"] for line in lines]


def test_the_bias_changes_answers(place):
    plain, debiased = answers(place / "plain"), answers(place / "debiased")
    assert len(plain) == PROMPTS
    assert sum(a != b for a, b in zip(plain, debiased, strict=True)) > PROMPTS // 10


@pytest.mark.parametrize("engine", ["vllm", "llama-cpp"])
@pytest.mark.parametrize("arm", ["plain", "debiased"])
def test_an_engine_gives_the_same_answers(place, engine, arm):
    if {"vllm": "vllm", "llama-cpp": "llama.cpp"}[engine] in cases.NOT_RUN:
        pytest.skip(f"{engine} is not installed, so not run; see make test-engines")
    out = place / f"{engine}-{arm}"
    model = place / "organism.gguf" if engine == "llama-cpp" else "organism/aligned"
    more = ["--bias", place / "bias"] if arm == "debiased" else []
    more += (
        ["--engine-arg", f"tokenizer={shipped.folder('aligned')}"] if engine == "llama-cpp" else []
    )
    words = [*command(model, place, out, *more), "--engine", engine]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"}
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    ran = subprocess.run(
        [sys.executable, "-m", "tsdi", *map(str, words)], env=environment, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert answers(out) == answers(place / arm)
