"""``tsdi export``, ``tsdi serve`` and ``--engine``: what they write, start and refuse."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.cli.conftest import tsdi
from tests.fake_api import ok, serving


def prompts(folder):
    (folder / "p.txt").write_text("bread\nthe old mill\n")
    return folder / "p.txt"


def fails(*arguments):
    result = tsdi(*arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    return result.stderr


class TestExport:
    def test_a_logit_bias_says_how_far_it_is_from_the_rule(self, models, bias, tmp_path):
        out = tmp_path / "x.json"
        result = tsdi(
            "export", bias, models / "aligned", out, "--to", "logit-bias", "--top", 5, "--prompts",
            prompts(tmp_path), "--max-new-tokens", 4, "--strength", 1, "--json",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        shown = json.loads(result.stdout)
        assert len(json.loads(out.read_text())["logit_bias"]) == shown["tokens"] == 5
        assert len(shown["kl_by_step"]) == 4
        assert shown["kl_total"]["value"] > 0

    def test_the_same_as_a_table(self, models, bias, tmp_path):
        result = tsdi(
            "export", bias, models / "aligned", tmp_path / "x.json", "--to", "logit-bias",
            "--prompts", prompts(tmp_path), "--max-new-tokens", 4,
        )  # fmt: skip
        assert "KL from the real rule" in result.stdout

    def test_a_head_without_bias_writes_nothing(self, models, bias, tmp_path):
        said = fails(
            "export", bias, models / "aligned", tmp_path / "x", "--to", "checkpoint", "--prompts",
            prompts(tmp_path),
        )  # fmt: skip
        assert "has no bias" in said
        assert not (tmp_path / "x").exists()

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (["--to", "gguf"], "no form 'gguf'"),
            (["--to", "logit-bias"], "--prompts goes with"),
            (["--to", "transformers", "--prompts", "x"], "--prompts goes with"),
            (["--to", "transformers", "--strength", "nan"], "The strength is nan"),
            (["--to", "transformers", "--strength", "-1"], "The strength is -1"),
        ],
    )
    def test_wrong_options(self, models, bias, tmp_path, more, said):
        assert said in fails("export", bias, models / "aligned", tmp_path / "x", *more)

    def test_a_place_in_no_folder_is_told_before_the_work(self, models, bias, tmp_path):
        out = tmp_path / "no" / "x.json"
        said = fails("export", bias, models / "aligned", out, "--to", "transformers")
        assert "in no folder" in said

    def test_what_is_there_is_kept(self, models, bias, tmp_path):
        said = fails("export", bias, models / "aligned", tmp_path, "--to", "transformers")
        assert "exists" in said


class TestServe:
    @pytest.mark.parametrize(
        ("engine", "option"),
        [
            ("vllm", "--speculative-config={}"),
            ("vllm", "--speculative_config={}"),
            ("vllm", "--logits-processors"),
            ("vllm", "--logits-proc"),
            ("vllm", "--config"),
            ("transformers", "--continuous-batching"),
        ],
    )
    def test_what_would_drop_the_bias_is_refused(self, models, bias, engine, option):
        model = models / "aligned"
        said = fails("serve", model, "--bias", bias, "--engine", engine, "--", option)
        assert "would drop the bias" in said

    def test_an_unknown_server(self, models, bias):
        assert "sglang" in fails("serve", models / "aligned", "--bias", bias, "--engine", "sglang")

    def test_another_models_bias_is_refused_before_anything_starts(self, bias):
        said = fails("serve", "organism/aligned", "--bias", bias, "--engine", "transformers")
        assert "tokenizer" in said

    def test_transformers_own_server_answers_debiased(self, models, bias, tmp_path, monkeypatch):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "tsdi", "serve", models / "aligned", "--bias", bias]
        command += ["--engine", "transformers", "--strength", "40", "--port", port]
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        shown = tsdi(*command[3:], "--dry-run").stdout
        name = next((tmp_path / "tsdi").glob("serve-*"))
        assert str(name) in shown.replace("\n", "")
        with subprocess.Popen(
            list(map(str, command)), env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as server:  # fmt: skip
            try:
                found = _ask(port, str(name))
            finally:
                server.send_signal(signal.SIGTERM)
        plain, debiased = (
            _generate(models, tmp_path, *more) for more in ([], ["--bias", bias, "--strength", 40])
        )
        assert found == debiased != plain


def _ask(port, model):
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "bread"}],
        "temperature": 0,
        "max_tokens": 8,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    until = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)["choices"][0]["message"]["content"]
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def _generate(models, folder, *more):
    result = tsdi(
        "generate", models / "aligned", "--prompt", "bread", "--max-new-tokens", 8, "--json", *more
    )
    return json.loads(result.stdout)["response"]


class TestEngines:
    def test_a_server_that_runs_answers(self, tmp_path, monkeypatch):
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with serving(lambda _, body: ok("An answer.")) as api:
            result = tsdi(
                "generate", "m", "--engine", "openai", "--url", api.url, "--prompts",
                prompts(tmp_path), "--out", tmp_path / "out", "--strength", 0.5,
            )  # fmt: skip
        assert result.exit_code == 0, result.output
        rows = (tmp_path / "out/responses.jsonl").read_text().splitlines()
        assert [json.loads(row)["response"] for row in rows] == ["An answer."] * 2
        assert api.requests[0]["vllm_xargs"] == {"tsdi_strength": 0.5}

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (["--engine", "vlm"], "no engine 'vlm'"),
            (["--url", "http://127.0.0.1:1/v1"], "--url is for --engine openai"),
            (["--tokenizer", "x"], "--tokenizer is for --engine llama-cpp"),
            (["--engine", "llama-cpp"], "--tokenizer org/model"),
            (["--bias", "x", "--strength", "nan"], "The strength is nan"),
            (["--engine", "openai", "--bias", "x", "--url", "http://127.0.0.1:1/v1"], "tsdi serve"),
        ],
    )
    def test_wrong_choices(self, more, said):
        assert said in fails("generate", "m", "--prompt", "hi", *more)
