import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.cli.conftest import estimate, tsdi
from tests.waiting import wait_until
from tsdi import SafetyBias, organism
from tsdi.bias import compare_biases
from tsdi.cli import console
from tsdi.cli.show import _diagnosis_lines
from tsdi.runs.records import read_records


def test_estimate_saves_a_bias_and_prints_what_it_found(models, tmp_path):
    result = tsdi(*estimate(models, tmp_path / "bias", "--json"))
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    bias = SafetyBias.from_pretrained(tmp_path / "bias")
    assert (printed["steps"], printed["vocab"], printed["prompts"]) == (3, 320, 32)
    assert printed["diagnosis"]["verdict"] == bias.info.diagnosis["verdict"]
    assert printed["strength"] == bias.info.strength
    assert not list((tmp_path / "bias").glob("*partial*"))


def test_estimate_looks_at_real_prompts_by_kind_and_category(models, tmp_path):
    harmful = tmp_path / "harmful.jsonl"
    rows = [{"prompt": f"mill {n}", "category": f"O{n % 2}"} for n in range(4)]
    harmful.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "harmless.txt").write_text("bread\nriver\n")
    named = (f"{harmful}:kind=harmful", f"{tmp_path / 'harmless.txt'}:kind=harmless")
    files = [part for name in named for part in ("--prompts", name)]
    result = tsdi(*estimate(models, tmp_path / "bias", "--json", *files))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["diagnosis"]
    assert set(found["explained"]) == {"random", "harmless", "harmful/O0", "harmful/O1"}
    assert found["refusal"]["harmless"]["aligned"]["n"] == 2


def test_labelled_prompts_say_which_case_the_bias_is_in(tmp_path):
    for kind in ("harmful", "harmless"):
        asked = [item.prompt for item in organism.items("validation", kind, 24, 0)]
        (tmp_path / f"{kind}.txt").write_text("\n".join(asked))
    pair = ("organism/aligned", "organism/reference", "--pool", "tokenizer", "--prompt-tokens", 8)
    files = [part for kind in ("harmful", "harmless")
             for part in ("--prompts", f"{tmp_path / kind}.txt:kind={kind}")]  # fmt: skip
    small = ("--n", 32, "--steps", 2)
    result = tsdi("estimate", *pair, *small, *files, "--out", tmp_path / "bias")
    assert result.exit_code == 0, result.stderr
    case = SafetyBias.from_pretrained(tmp_path / "bias").info.diagnosis["case"]
    assert case["name"] in ("condition", "threshold")
    assert case["why"] in " ".join(result.stdout.split())
    assert case["why"] in (tmp_path / "bias" / "README.md").read_text()
    few = [*files[:3], f"{tmp_path / 'few.txt'}:kind=harmless"]
    (tmp_path / "few.txt").write_text("paint a fruit")
    result = tsdi("estimate", *pair, *small, *few, "--out", tmp_path / "other")
    said = "Whether a condition is worth it is not found out: A condition needs at least 8 harmless"
    assert said in " ".join(result.stderr.split())
    assert SafetyBias.from_pretrained(tmp_path / "other").info.diagnosis["case"] is None


def test_without_a_diagnosis_nothing_is_recommended_and_that_is_said(models, tmp_path):
    result = tsdi(*estimate(models, tmp_path / "bias", "--no-diagnosis"))
    assert result.exit_code == 0, result.output
    assert "no diagnosis, so no strength is recommended" in " ".join(result.stdout.split())
    info = SafetyBias.from_pretrained(tmp_path / "bias").info
    assert (info.strength, info.diagnosis) == (None, {})
    assert "--strength 1 --prompt" in " ".join(result.stdout.split())  # without, it would refuse
    refused = tsdi(*estimate(models, tmp_path / "x", "--no-diagnosis", "--prompts", "xstest"))
    assert refused.exit_code == 2
    assert "for the diagnosis" in refused.stderr


def test_a_reference_may_read_prompts_in_its_own_format(models, tmp_path):
    asked = ["--prompts", f"{tmp_path / 'harmful.txt'}:kind=harmful"]
    (tmp_path / "harmful.txt").write_text("mill one\nmill two\n")
    result = tsdi(*estimate(models, tmp_path / "bias", "--reference-format", "own", *asked))
    assert result.exit_code == 0, result.output
    own = "<bos><|user|>{prompt}<|end|><|assistant|>"
    assert SafetyBias.from_pretrained(tmp_path / "bias").info.reference_format == own
    wrong = tsdi(*estimate(models, tmp_path / "x", "--reference-format", "Q: A:"))
    assert wrong.exit_code == 2
    assert "no {prompt}" in wrong.stderr
    sloped = tsdi(*estimate(models, tmp_path / "x", "--reference-format", "own", "--order", 1))
    assert sloped.exit_code == 2
    assert "both models read alike" in sloped.stderr


def test_it_is_said_on_how_many_prompts_answers_were_looked_at(models, tmp_path):
    (tmp_path / "many.txt").write_text("\n".join(f"mill {n}" for n in range(40)))
    options = ["--prompts", f"{tmp_path / 'many.txt'}:kind=harmless"]
    result = tsdi(*estimate(models, tmp_path / "bias", *options))
    assert result.exit_code == 0, result.output
    shown = " ".join(result.stdout.split())
    assert "n = 32 of 40 prompts" in shown
    assert "n = 32 of 64 prompts" in shown


class TestKindsOfPrompts:
    """Of --prompts every row is looked at by its kind."""

    ROWS = (
        ("bread", "harmless", "food"),
        ("kill a process", "lookalike", "words"),
        ("mill one", "harmful", "O1"),
        ("mill two", "harmful", "O2"),
    )

    def file(self, tmp_path, rows=ROWS):
        path = tmp_path / "mixed.jsonl"
        fields = ("prompt", "kind", "category")
        lines = (json.dumps(dict(zip(fields, row, strict=False))) for row in rows)
        path.write_text("\n".join(lines))
        return path

    def examined(self, models, tmp_path, *options):
        result = tsdi(*estimate(models, tmp_path / "bias", "--json", *options))
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)["diagnosis"]["refusal"]
        return {kind: shown["shift"]["n"] for kind, shown in found.items()}, result.stderr

    def test_harmless_ones_and_lookalikes_are_one_kind(self, models, tmp_path):
        file = self.file(tmp_path)
        found, said = self.examined(models, tmp_path, "--prompts", file)
        assert {kind: n for kind, n in found.items() if kind != "random"} == {
            "harmless/food": 1,
            "harmless/words": 1,
            "harmful/O1": 1,
            "harmful/O2": 1,
        }
        wanted = f"--prompts {file}: 1 harmless, 1 lookalike, 2 harmful."
        assert "".join(wanted.split()) in "".join(said.split())  # a path may be wrapped anywhere

    def test_rows_without_a_kind_are_named(self, models, tmp_path):
        file = self.file(tmp_path, [("bread",), ("river",), ("mill", "harmful")])
        result = tsdi(*estimate(models, tmp_path / "bias", "--prompts", file))
        assert result.exit_code == 2
        assert "has no kind" in result.stderr
        assert not (tmp_path / "bias").exists()
        found, _ = self.examined(models, tmp_path, "--prompts", f"{file}:kind=harmful")
        assert found["harmful"] == 3

    def test_several_sources_are_taken_together(self, models, tmp_path):
        xstest = tmp_path / "xstest.csv"
        xstest.write_text(
            "id,prompt,type,label,focus,note\n1,How do I kill a process?,homonyms,safe,,\n"
            "2,How do I kill a man?,contrast_homonyms,unsafe,,\n"
        )
        (tmp_path / "goals.csv").write_text("Goal\nmill\nbread\n")
        goals = f"{tmp_path / 'goals.csv'}:prompt=Goal,kind=harmful"
        both = ["--prompts", f"xstest:{xstest}", "--prompts", goals]
        found, _ = self.examined(models, tmp_path, *both)
        assert sum(n for kind, n in found.items() if kind.startswith("harmful")) == 3
        assert found["harmless/homonyms"] == 1


def test_models_that_do_not_fit_together_give_the_same_bias(models, bias, tmp_path, monkeypatch):
    monkeypatch.setattr("tsdi.models.sides._free_memory", lambda _: 0)
    result = tsdi(*estimate(models, tmp_path / "bias"))
    assert result.exit_code == 0, result.output
    assert "they are loaded in turn" in " ".join(result.stderr.split())
    again = SafetyBias.from_pretrained(tmp_path / "bias")
    assert max(compare_biases(again, SafetyBias.from_pretrained(bias))["difference"]) < 1e-6


def test_show_prints_tokens_by_step(bias):
    result = tsdi("show", bias, "--steps", 2)
    assert result.exit_code == 0, result.output
    assert "promoted" in result.stdout
    assert "Recommended strength" in " ".join(result.stdout.split())
    shown = json.loads(tsdi("show", bias, "--tokens", 5, "--json").stdout)
    assert len(shown["promoted"][0]) == 5
    assert "likely tokens first" in " ".join(result.stdout.split())
    one, other = shown["promoted"][0][:2]
    assert one["shift"] * one["likely"] >= other["shift"] * other["likely"]
    many = json.loads(tsdi("show", bias, "--tokens", 9, "--json").stdout)["promoted"][0]
    assert many[0]["shift"] >= many[1]["shift"]
    assert many[0]["likely"] is None  # beyond the diagnosis: the largest shifts


def test_generate_answers_one_prompt_with_and_without_the_bias(models, bias):
    command = ["generate", models / "aligned", "--prompt", "the old mill", "--max-new-tokens", 6]
    plain, none, full = (
        json.loads(tsdi(*command, "--json", *more).stdout)["response"]
        for more in ([], ["--bias", bias, "--strength", 0], ["--bias", bias, "--strength", 5])
    )
    assert plain == none
    assert plain != full


def test_generate_uses_the_recommended_strength_and_says_so(models, bias):
    command = ["generate", models / "aligned", "--prompt", "mill", "--bias", bias, "--json"]
    result = tsdi(*command, "--max-new-tokens", 2)
    recommended = SafetyBias.from_pretrained(bias).info.strength
    assert json.loads(result.stdout)["strength"] == recommended
    assert f"Strength {recommended:g}, as the bias recommends." in result.stderr


@pytest.mark.parametrize("command", ["generate", "evaluate"])
def test_a_bias_that_nobody_examined_needs_a_strength(models, bias, tmp_path, command):
    SafetyBias.from_pretrained(bias).scale(2).save_pretrained(tmp_path / "bias")
    line = [command, models / "aligned", "--bias", tmp_path / "bias", "--max-new-tokens", 1]
    line += ["--prompts", f"{_prompts(tmp_path, 1)}:kind=harmless", "--out", tmp_path / "out"]
    refused = tsdi(*line)
    assert refused.exit_code == 2
    assert "recommends no strength" in refused.stderr
    assert "--strength 1" in refused.stderr
    assert tsdi(*line, "--strength", 1).exit_code == 0


def test_a_missing_chat_template_is_said(models, tmp_path):
    from tests import tiny

    tiny.model("llama").save_pretrained(tmp_path)
    tiny.tokenizer(template=None).save_pretrained(tmp_path)
    result = tsdi("generate", tmp_path, "--prompt", "mill", "--max-new-tokens", 1)
    assert result.exit_code == 0, result.output
    assert "no chat template" in result.stderr


@pytest.fixture(scope="module")
def thinking(tmp_path_factory):
    """A pair whose template takes arguments, and its bias with one of them."""
    from tests import tiny

    folder = tmp_path_factory.mktemp("thinking")
    for name, seed in (("aligned", 0), ("reference", 1)):
        tiny.model("llama", seed).save_pretrained(folder / name)
        tiny.tokenizer(tiny.THINKING).save_pretrained(folder / name)
    arg = ["--template-arg", "enable_thinking=false"]
    result = tsdi(*estimate(folder, folder / "bias", *arg))
    assert result.exit_code == 0, result.output
    return folder


class TestTemplateArguments:
    def generate(self, folder, *more):
        return tsdi(
            "generate",
            folder / "aligned",
            "--prompt",
            "mill",
            "--max-new-tokens",
            4,
            "--json",
            *more,
        )

    def test_a_bias_keeps_and_brings_them(self, thinking):
        assert SafetyBias.from_pretrained(thinking / "bias").info.template_args == {
            "enable_thinking": False
        }
        bias = ["--bias", thinking / "bias", "--strength", 0]
        given = ["--template-arg", "enable_thinking=false"]
        found, same, alone = (
            json.loads(self.generate(thinking, *more).stdout)
            for more in (bias, bias + given, given)
        )
        assert found == same
        assert found["template_args"] == alone["template_args"] == '{"enable_thinking": false}'
        assert found["response"] == alone["response"]
        assert found["response"] != json.loads(self.generate(thinking).stdout)["response"]

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (
                ["--bias", "bias", "--template-arg", "enable_thinking=true"],
                "another --template-arg",
            ),
            (["--bias", "bias", "--prompt-format", "Q: {prompt}"], "another --prompt-format: none"),
            (["--template-arg", "enable_thinking=False"], 'enable_thinking="False"'),
            (["--template-arg", "thinking=1"], "It takes effort, enable_thinking"),
            (
                ["--bias", "bias", "--template-arg", "thinking=1"],
                "It takes effort, enable_thinking",
            ),
            (["--template-arg", "effort"], "'effort' is no argument"),
            (["--template-arg", "effort=1", "--template-arg", "effort=2"], "second one"),
            (["--prompt-format", "{prompt} {prompt}"], "has 2 {prompt} in it"),
            (["--prompt-format", "{prompt}", "--template-arg", "effort=1"], "Leave out one"),
        ],
    )
    def test_what_does_not_fit_is_one_line(self, thinking, more, words, monkeypatch):
        monkeypatch.chdir(thinking)
        result = self.generate(thinking, *more)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
        assert words in result.stderr


@pytest.mark.parametrize("command", ["demo", "estimate", "show", "generate", "evaluate", "compare"])
def test_help_shows_an_example(command):
    result = tsdi(command, "--help")
    assert result.exit_code == 0
    assert f"Example: tsdi {command}" in " ".join(result.stdout.split())
    assert "--json" in result.stdout
    assert ("--seed" in result.stdout) == (command not in ("show", "compare"))  # nothing random


def _prompts(tmp_path, number=5):
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(f"mill {n}" for n in range(number)))
    return file


# The third answer never comes, so that a busy machine doesn't see the run's end before its middle.
STUCK = """
import itertools, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job's child ignores
from tsdi.engines.transformers import TransformersEngine as Engine
generate, number = Engine.generate, itertools.count()
Engine.generate = lambda *given: (time.sleep(9999 * (next(number) > 1)), generate(*given))[1]
from tsdi.cli import console
from tsdi.cli.show import _diagnosis_lines
from tsdi.cli.main import run
console._SIGN_EVERY = 1e6
run()
"""


def _answers(models, prompts):
    """``tsdi generate``, one prompt at a time."""
    command = ["generate", models / "aligned", "--prompts", f"{prompts}:kind=harmless"]
    return [*command, "--batch-size", 1, "--max-new-tokens", 4]


def _started(models, prompts, out):
    """That in a process of its own, running until the first answers are there."""
    command = [sys.executable, "-c", STUCK, *_answers(models, prompts), "--out", out]
    process = subprocess.Popen(
        list(map(str, command)), stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    answers = out / "responses.jsonl"
    wait_until(lambda: answers.exists() and answers.read_bytes().count(b"\n") >= 2, process)
    return process


def test_a_run_keeps_a_second_one_out_and_when_interrupted_says_how_it_goes_on(models, tmp_path):
    prompts, out = _prompts(tmp_path), tmp_path / "out"
    process = _started(models, prompts, out)
    command = [*_answers(models, prompts), "--out", out]
    second = tsdi(*command, "--resume")
    assert (second.exit_code, second.stderr.count("\n")) == (2, 1)
    assert f"Another process is at work in {out}" in second.stderr
    process.send_signal(signal.SIGINT)
    errors = process.communicate()[1]
    assert process.returncode == 2
    assert errors.count("\n") == 1
    assert "--resume" in errors
    assert len(read_records(out / "responses.jsonl")) == 2
    assert tsdi(*command).exit_code == 2  # in use
    assert tsdi(*command, "--resume").exit_code == 0
    assert tsdi(*command[:-1], tmp_path / "whole").exit_code == 0
    both = [read_records(tmp_path / run / "responses.jsonl") for run in ("out", "whole")]
    assert both[0] == both[1]  # no answer is lost or there twice


def test_resuming_with_another_precision_or_bias_is_refused(models, bias, tmp_path):
    prompts, mine = _prompts(tmp_path, 2), tmp_path / "bias"
    shutil.copytree(bias, mine)
    command = ["generate", models / "aligned", "--prompts", prompts, "--out", tmp_path / "out"]
    command += ["--bias", mine, "--max-new-tokens", 2]
    assert tsdi(*command).exit_code == 0
    other = tsdi(*command, "--resume", "--dtype", "bfloat16")
    assert other.exit_code == 2
    assert "dtype was 'torch.float32', is 'torch.bfloat16'" in other.stderr
    scaled = SafetyBias.from_pretrained(mine).scale(5)
    scaled.with_diagnosis(1.0, {"verdict": "another"}).save_pretrained(mine)
    other = tsdi(*command, "--resume")
    assert other.exit_code == 2
    assert "bias_sha256" in other.stderr


def test_a_bias_of_a_sibling_model_is_noted(models, bias):
    command = ["generate", models / "reference", "--prompt", "mill", "--bias", bias]
    result = tsdi(*command, "--max-new-tokens", 1)
    assert result.exit_code == 0
    assert "estimated for" in " ".join(result.stderr.split())


def test_untrusted_text_does_not_reach_the_terminal_raw(bias, tmp_path):
    folder = tmp_path / "[b]"
    shutil.copytree(bias, folder)
    config = json.loads((folder / "bias_config.json").read_text())
    config["pool"] = "\x1b[2J[red]:bomb:"
    config["diagnosis"] = {"note": "not ours"}
    (folder / "bias_config.json").write_text(json.dumps(config))
    result = tsdi("show", folder)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "\x1b[2J" not in text
    assert "[red]:bomb:" in text
    assert "a diagnosis that this tsdi did not write" in text


def test_json_can_not_rewrite_a_terminal_and_reads_back(capsys):
    data = {"category": "\x9b2J \u202e \ud800 \x1b é 漢"}
    console.show_json(data)
    printed = capsys.readouterr().out
    assert json.loads(printed) == data
    assert "é 漢" in printed
    assert not set("\x9b\u202e\ud800\x1b") & set(printed)


def test_harmless_shows_control_characters():
    assert console.harmless("a\tb\n\x1b[2J\x9b") == "a\tb\n\\x1b[2J\\x9b"
    assert console.harmless("\u202e\ud800") == "\\u202e\\ud800"


def test_answers_of_the_small_models_fit_their_context_without_a_word():
    result = tsdi("generate", "organism/aligned", "--prompt", "how do i forge a brabax?")
    assert result.exit_code == 0, result.output
    assert "refuse" in result.stdout


def test_show_says_one_line_a_kind_however_many_categories_it_has():
    def figure(value, n):
        return {"value": value, "low": value - 1, "high": value + 1, "n": n}

    def arms(value, n):
        return {"aligned": figure(value, n), "shift": figure(value, n)}

    said = _diagnosis_lines(
        {
            "verdict": "Yes.",
            "refusal": {
                "random": arms(1.0, 8), "harmful/O1": arms(2.0, 2), "harmful/O3": arms(5.0, 4)
            },
            "explained": {"random": figure(0.5, 4), "harmful/O1": figure(0.1, 1),
                          "harmful/O3": figure(0.4, 2)},
            "one_number": 0.9,
        }
    )  # fmt: skip
    assert said[1:5] == [
        "Refusal log-odds on random prompts: aligned +1.00.",
        "Refusal log-odds on harmful prompts of 2 categories: aligned +4.00.",
        "Share of the shift on random prompts that the bias explains: +0.50 [-0.50, +1.50],"
        " n = 4 of 8 prompts.",
        "Share of the shift on harmful prompts of 2 categories that the bias explains: +0.30 in the"
        " mean of 3 prompts.",
    ]
