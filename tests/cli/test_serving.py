"""``tsdi export``, ``tsdi serve`` and ``--engine``: what they write, start and refuse."""

import importlib
import itertools
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests import tiny
from tests.cli.conftest import tsdi
from tests.fake_api import ok, serving
from tests.waiting import HANGS
from tsdi.engines.transformers import TransformersEngine
from tsdi.engines.vllm_settings import offline_settings
from tsdi.errors import UsageError
from tsdi.models.load import load_model, load_tokenizer
from tsdi.serving.server import trusts_remote_code


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
            prompts(tmp_path), "--strength", 1, "--json",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        shown = json.loads(result.stdout)
        assert len(json.loads(out.read_text())["logit_bias"]) == shown["tokens"] == 5
        assert len(shown["kl_by_step"]) == 32
        assert shown["kl_total"]["value"] > 0

    def test_it_is_not_taken_for_a_debiased_model(self, models, bias, tmp_path):
        export, own, out = tmp_path / "export", tmp_path / "export/tsdi", tmp_path / "answers"
        tsdi("export", bias, models / "aligned", export, "--to", "transformers", "--strength", 2)
        named = f"{prompts(tmp_path)}:kind=harmful"
        asked = ["--prompts", named, "--max-new-tokens", 4, "--out", out]
        for command in ("generate", "evaluate"):
            said = fails(command, export, *asked)
            assert f"Add --bias {own}, or name the model" in said
        model, tokenizer = load_model(str(export)), load_tokenizer(str(export))
        tiny.refused(lambda: TransformersEngine(model, tokenizer), str(own), kind=UsageError)
        result = tsdi("generate", export, *asked, "--bias", own, "--json")
        assert json.loads(result.stdout)["strength"] == 2
        trusting = tsdi("generate", export, "--prompt", "a", "--bias", own, "--trust-remote-code")
        assert "Leave out --trust-remote-code" in trusting.stderr

    def test_the_same_as_a_table(self, models, bias, tmp_path):
        result = tsdi(
            "export", bias, models / "aligned", tmp_path / "x.json", "--to", "logit-bias",
            "--prompts", prompts(tmp_path),
        )  # fmt: skip
        assert "KL from the real rule" in result.stdout

    def test_a_few_prompts_for_a_head_write_nothing(self, models, bias, tmp_path):
        said = fails(
            "export", bias, models / "aligned", tmp_path / "x", "--to", "checkpoint", "--prompts",
            prompts(tmp_path),
        )  # fmt: skip
        assert "2 are too few" in said
        assert not (tmp_path / "x").exists()

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (["--to", "gguf"], "no form 'gguf'"),
            (["--to", "logit-bias"], "--prompts goes with"),
            (["--to", "transformers", "--prompts", "everyday"], "--prompts goes with"),
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
        ("flags", "said"),
        [
            (["--speculative-config={}"], "--speculative-config"),
            (["--speculative_config={}"], "--speculative-config"),
            (["--speculative-config.method=ngram"], "--speculative-config"),
            (["-sc.method=ngram"], "--speculative-config"),
            (["--spec-model", "x"], "--spec-model"),
            (["--logits-processors", "x:Y"], "--logits-processors"),
            (["--logits-proc", "x:Y"], "--logits-processors"),
            (["--config", "x.yaml"], "--config"),
            (["--generation-config", "auto"], "--generation-config"),
            (["--generation_config=x"], "--generation-config"),
            (["--logprobs-mode", "raw_logprobs"], "--logprobs-mode"),
            (["--host", "0.0.0.0"], "--host"),
            (["--ho=0.0.0.0"], "--host"),
            (["--api-key", "x"], "--api-key"),
            (["--allowed-origins", '["*"]'], "--allowed-origins"),
            (["--chat-template", "x"], "--chat-template"),
            (["--additional-config", "{}"], "--additional-config"),
        ],
    )
    def test_what_would_undo_ours_is_refused(self, models, bias, flags, said):
        message = fails("serve", models / "aligned", "--bias", bias, "--", *flags)
        assert f"{said} is set by tsdi serve: " in message

    def test_vllm_gets_what_the_offline_engine_gives_it(self, models, bias, monkeypatch):
        monkeypatch.setattr("tsdi.serving.server.find_spec", lambda _: True)
        flags = ["--max-model-len", "64", "--generation-config=vllm"]
        flags += ["--chat-template-content-format", "string"]
        result = tsdi(
            "serve", models / "aligned", "--bias", bias, "--strength", 0.123456789, "--dtype",
            "float32", "--dry-run", "--", *flags,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        words = shlex.split(result.stdout.splitlines()[0])
        given = dict(itertools.pairwise(words))
        offline = offline_settings(str(bias), 0.123456789)
        assert given["--generation-config"] == offline["generation_config"] == "vllm"
        assert [given["--logits-processors"]] == offline["logits_processors"]
        named = json.loads(given["--additional-config"])["tsdi"]
        assert named == offline["additional_config"]["tsdi"]
        assert given["--logprobs-mode"] == "processed_logprobs"
        assert given["--dtype"] == "float32"
        assert given["--allowed-origins"] == "[]"
        module, _, name = given["--middleware"].rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), name), type)
        assert words[-len(flags) :] == flags

    def test_without_vllm_the_small_server_is_named(self, models, bias, monkeypatch):
        monkeypatch.setattr("tsdi.serving.server.find_spec", lambda _: None)
        message = fails("serve", models / "aligned", "--bias", bias)
        assert "vllm is not installed. Run: pip install vllm; or try --engine" in message

    def test_an_unknown_server(self, models, bias):
        assert "sglang" in fails("serve", models / "aligned", "--bias", bias, "--engine", "sglang")

    @pytest.mark.parametrize(
        ("flags", "trusts"),
        [
            (["--trust-remote-code"], True),
            (["--trust_remote_code"], True),
            ([], False),
            (["--trust-remote-code=false"], False),
            (["--trust-remote-code", "--no-trust-remote-code"], False),
        ],
    )
    def test_only_a_plain_flag_lets_a_models_own_code_run(self, flags, trusts):
        assert trusts_remote_code(flags) is trusts

    def test_what_follows_is_for_vllm(self, models, bias):
        said = fails(
            "serve", models / "aligned", "--bias", bias, "--engine", "transformers", "--",
            "--trust-remote-code",
        )  # fmt: skip
        assert "--trust-remote-code would go to vLLM" in said

    def test_another_models_bias_is_refused_before_anything_starts(self, bias):
        said = fails("serve", "organism/aligned", "--bias", bias, "--engine", "transformers")
        assert "tokenizer" in said

    @pytest.mark.parametrize("engine", ["vllm", "transformers"])
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "my.server"])
    def test_other_machines_need_a_key(self, models, bias, engine, host, monkeypatch):
        monkeypatch.delenv("TSDI_API_KEY", raising=False)
        command = ["serve", models / "aligned", "--bias", bias, "--engine", engine, "--host", host]
        assert "there is no key" in fails(*command)
        assert "--api-key is empty" in fails(*command, "--api-key", "")
        assert "no key can" in fails(*command, "--api-key", "two words")
        monkeypatch.setenv("TSDI_API_KEY", "")
        assert "there is no key" in fails(*command)

    @pytest.mark.parametrize("engine", ["vllm", "transformers"])
    def test_a_key_opens_it_with_a_warning_and_is_never_shown(
        self, models, bias, engine, monkeypatch
    ):
        monkeypatch.setattr("tsdi.serving.server.find_spec", lambda _: True)
        monkeypatch.setenv("TSDI_API_KEY", "s3cret")
        result = tsdi(
            "serve", models / "aligned", "--bias", bias, "--engine", engine, "--host", "0.0.0.0",
            "--dry-run",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert "opens the server to other machines" in result.stderr
        assert "s3cret" not in result.output
        assert "Bearer $TSDI_API_KEY" in result.stdout

    def test_vllm_gets_its_key_where_no_list_of_processes_shows_it(self, models, bias, monkeypatch):
        monkeypatch.setattr("tsdi.serving.server.find_spec", lambda _: True)
        become = []
        monkeypatch.setattr("os.execvp", lambda _, words: become.append((words, dict(os.environ))))
        for name in ("VLLM_API_KEY", "VLLM_NO_USAGE_STATS", "VLLM_CPU_KVCACHE_SPACE"):
            monkeypatch.setenv(name, "")  # put back afterwards
        result = tsdi("serve", models / "aligned", "--bias", bias, "--api-key", "s3cret")
        assert result.exit_code == 0, result.output
        words, environment = become[0]
        assert environment["VLLM_API_KEY"] == "s3cret"
        assert not any("s3cret" in word for word in words)

    def test_a_place_that_is_taken_is_told_before_the_model_is_loaded(self, models, bias):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            said = fails(
                "serve", models / "aligned", "--bias", bias, "--engine", "transformers", "--port",
                taken.getsockname()[1],
            )  # fmt: skip
        assert "Take another --port" in said

    def test_ours_answers_as_generate_does_and_writes_nothing(self, models, bias, tmp_path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "tsdi", "serve", models / "aligned", "--bias", bias]
        command += ["--engine", "transformers", "--strength", "40", "--port", port]
        places = {"XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
        with subprocess.Popen(
            list(map(str, command)), env=os.environ | places, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        ) as server:  # fmt: skip
            try:
                said = server.stderr.readline()
                assert f"http://127.0.0.1:{port}/v1, strength 40" in said
                found = _ask(port, str(models / "aligned"))
                shown = tsdi(*command[3:], "--dry-run")  # leaves the one that runs alone
                assert shown.exit_code == 0, shown.output
                assert _ask(port, str(models / "aligned")) == found
            finally:
                server.send_signal(signal.SIGINT)
                rest = server.communicate()[1]
        assert server.returncode == 0, rest
        plain, debiased = (
            _generate(models, tmp_path, *more) for more in ([], ["--bias", bias, "--strength", 40])
        )
        assert found == debiased != plain
        assert list(tmp_path.iterdir()) == []


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
    until = time.monotonic() + HANGS
    while True:
        try:
            with urllib.request.urlopen(request, timeout=HANGS) as reply:
                return json.load(reply)["choices"][0]["message"]["content"]
        except urllib.error.URLError:  # it says that it serves just before it listens
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _generate(models, folder, *more):
    result = tsdi(
        "generate", models / "aligned", "--prompt", "bread", "--max-new-tokens", 8, "--json", *more
    )
    return json.loads(result.stdout)["response"]


URL = "url=http://127.0.0.1:1/v1"


class TestEngines:
    def test_a_server_that_runs_answers(self, tmp_path, monkeypatch):
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with serving(lambda _, body: ok("An answer.")) as api:
            result = tsdi(
                "generate", "m", "--engine", "openai", "--engine-arg", f"url={api.url}",
                "--prompts", prompts(tmp_path), "--out", tmp_path / "out", "--strength", 0.5,
            )  # fmt: skip
        assert result.exit_code == 0, result.output
        rows = (tmp_path / "out/responses.jsonl").read_text().splitlines()
        assert [json.loads(row)["response"] for row in rows] == ["An answer."] * 2
        assert api.requests[0]["vllm_xargs"] == {"tsdi_strength": 0.5}

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (["--engine", "vlm"], "no engine 'vlm'"),
            (["--engine-arg", URL], "argument url is for openai"),
            (["--engine-arg", "tokenizer=x"], "argument tokenizer is for llama-cpp"),
            (["--engine-arg", "max_memory="], "'max_memory=' is no argument"),
            (["--engine", "llama-cpp"], "--engine-arg tokenizer=acme/model"),
            (["--bias", "BIAS", "--strength", "nan"], "to 100. Take 1, which is TSDI."),
            (["--engine", "openai", "--bias", "x", "--engine-arg", URL], "tsdi serve"),
        ],
    )
    def test_wrong_choices(self, bias, more, said):
        given = [bias if word == "BIAS" else word for word in more]
        assert said in fails("generate", "organism/aligned", "--prompt", "hi", *given)
