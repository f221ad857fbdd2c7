"""Bad input gets one clear line and exit code 2, and leaves nothing behind."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import typer
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.cli.conftest import estimate, tsdi
from tsdi.cli import frame
from tsdi.models import shipped
from tsdi.models.load import load_model


def _refused(result, *words):
    assert result.exit_code == 2, result.output
    line = result.stderr.strip().splitlines()[-1]
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert line.startswith("Error: ")
    for word in words:
        assert word in line, line


def _copy(models, tmp_path):
    shutil.copytree(models / "aligned", tmp_path / "aligned")
    shutil.copytree(models / "reference", tmp_path / "reference")
    return tmp_path


def test_different_tokenizers(models, tmp_path):
    pair = _copy(models, tmp_path)
    tiny.tokenizer(vocab=300).save_pretrained(pair / "reference")
    _refused(tsdi(*estimate(pair, tmp_path / "out")), "tokenizers", "320", "300")


def test_vocabularies_of_different_size(models, tmp_path):
    pair = _copy(models, tmp_path)
    tiny.model("llama", vocab_size=310).save_pretrained(pair / "reference")
    _refused(tsdi(*estimate(pair, tmp_path / "out")), "320", "310")


def test_no_such_model(models, tmp_path):
    command = ["estimate", tmp_path / "none", models / "reference", "--out", tmp_path / "out"]
    _refused(tsdi(*command), str(tmp_path / "none"), "no such folder")
    assert not (tmp_path / "out").exists()


def test_not_a_causal_model(models, tmp_path):
    pair = _copy(models, tmp_path)
    config = json.loads((pair / "aligned" / "config.json").read_text())
    (pair / "aligned" / "config.json").write_text(json.dumps({**config, "model_type": "t5"}))
    _refused(tsdi(*estimate(pair, tmp_path / "out")), "t5", "causal")


def test_truncated_weights(models, tmp_path):
    pair = _copy(models, tmp_path)
    weights = pair / "aligned" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    _refused(tsdi(*estimate(pair, tmp_path / "out")), "aligned", "damaged")


def test_a_model_is_no_reference_of_its_own(models, tmp_path):
    command = ["estimate", models / "aligned", f"{models}/../{models.name}/aligned", "--out"]
    _refused(tsdi(*command, tmp_path / "out"), "Both are", "aligned")


def test_a_copy_as_reference_is_told_and_gets_no_command_to_debias(models, tmp_path):
    shutil.copytree(models / "aligned", tmp_path / "reference")
    command = ["estimate", models / "aligned", tmp_path / "reference", "--out", tmp_path / "out"]
    result = tsdi(*command, "--n", 16, "--steps", 2, "--prompt-tokens", 8)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert said.count("exactly the same logits") == 1
    assert "Recommended strength: 0." in said
    assert "tsdi generate" not in said


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_models_that_seem_exchanged_are_noted(models, tmp_path):
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    adapter = get_peft_model(load_model(str(models / "aligned")), config)
    adapter.save_pretrained(tmp_path / "adapter")
    more = ["--n", 16, "--steps", 2, "--prompt-tokens", 4]
    pair = [models / "aligned", tmp_path / "adapter"]
    for order, noted in ((pair, True), (pair[::-1], False)):
        result = tsdi("estimate", *order, "--out", tmp_path / f"out{noted}", *more)
        assert result.exit_code == 0, result.output
        assert ("the two are exchanged" in " ".join(result.stderr.split())) == noted


def test_weights_with_other_names(models, tmp_path):
    pair = _copy(models, tmp_path)
    weights = pair / "aligned" / "model.safetensors"
    named = {f"_orig_mod.{name}": tensor for name, tensor in load_file(weights).items()}
    save_file(named, weights, metadata={"format": "pt"})
    words = "lacks 21 tensors", "_orig_mod.lm_head.weight"
    _refused(tsdi(*estimate(pair, tmp_path / "out")), *words)
    _refused(tsdi("generate", pair / "aligned", "--prompt", "a"), *words)


@pytest.mark.parametrize(("text", "words"), [("", ["0 different"]), ("a b", ["at least 16"])])
def test_empty_or_tiny_pool(models, tmp_path, text, words):
    (tmp_path / "pool.txt").write_text(text)
    result = tsdi(*estimate(models, tmp_path / "out", "--pool", tmp_path / "pool.txt"))
    _refused(result, "pool.txt", *words)


def test_steps_beyond_the_context(models, tmp_path):
    result = tsdi(*estimate(models, tmp_path / "out", "--steps", 500))
    _refused(result, "500 steps", "128")


def test_a_nan_that_no_random_prompt_meets(models, tmp_path):
    pair = _copy(models, tmp_path)
    broken = tiny.model("llama")
    with torch.no_grad():
        broken.model.embed_tokens.weight[3] = float("nan")  # of a special token
    broken.save_pretrained(pair / "aligned")
    result = tsdi(*estimate(pair, tmp_path / "out"))
    _refused(result, "tensor model.embed_tokens.weight of", "aligned", "NaN")


def test_a_used_folder(models, bias):
    _refused(tsdi(*estimate(models, bias)), "finished bias", "--out")


def test_full_disk(models, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".partial-reference.safetensors.part").symlink_to("/dev/full")
    result = tsdi(*estimate(models, out, "--resume"))
    _refused(result, "No space left", "run it again")


def _spoil(bias, tmp_path, file, change):
    folder = tmp_path / "bias"
    shutil.copytree(bias, folder)
    (folder / file).write_bytes(change((folder / file).read_bytes()))
    return folder


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("bias.safetensors", lambda data: data[:-10], ["truncated"]),
        ("bias_config.json", lambda data: data[:100], ["truncated"]),
        ("bias_config.json", lambda data: b'{"model_type": "llama"}', ["not written by tsdi"]),
        (
            "bias_config.json",
            lambda data: data.replace(b'"format_version": ', b'"format_version": 9'),
            ["format version 9", "pip install --upgrade tsdi"],
        ),
    ],
)
def test_bias_files_that_are_none(models, bias, tmp_path, file, change, words):
    spoilt = _spoil(bias, tmp_path, file, change)
    _refused(tsdi("generate", models / "aligned", "--prompt", "mill", "--bias", spoilt), *words)
    _refused(tsdi("show", spoilt), *words)


def test_a_bias_for_another_model(bias, tmp_path):
    tiny.model("llama", vocab_size=300).save_pretrained(tmp_path)
    tiny.tokenizer(vocab=300).save_pretrained(tmp_path)
    _refused(tsdi("generate", tmp_path, "--prompt", "mill", "--bias", bias), "tokenizer")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["no prompts"]),
        ('{"prompt": "mill"}\n{"prompt": \n', ["line 2", "not valid JSON"]),
        ('{"prompt": "' + "mill " * 200 + '"}', ["p0001", "line 1", "128"]),
    ],
)
def test_prompt_files(models, tmp_path, content, words):
    file = tmp_path / "prompts.jsonl"
    file.write_text(content)
    command = ["generate", models / "aligned", "--prompts", f"{file}:kind=harmless"]
    _refused(tsdi(*command, "--out", tmp_path / "out", "--max-new-tokens", 2), *words)
    assert not (tmp_path / "out").exists()


def test_options_that_do_not_fit_together(models):
    _refused(tsdi("generate", models / "aligned"), "--prompt")
    _refused(tsdi("generate", models / "aligned", "--prompt", " \t"), "prompt is empty")
    _refused(tsdi("generate", models / "aligned", "--prompts", "x.txt"), "--out")
    _refused(tsdi("generate", models / "aligned", "--prompt", "x", "--strength", 1), "--bias")


def test_phrases_that_the_tokenizer_does_not_know(tmp_path):
    command = ["estimate", shipped.folder("aligned"), shipped.folder("reference")]
    command += ["--out", tmp_path / "out", "--pool", "tokenizer"]
    command += ["--phrases", tmp_path / "phrases.json"]
    (tmp_path / "phrases.json").write_text('{"refusing": ["sorry"]}')
    _refused(tsdi(*command), "phrases.json", "complying")
    (tmp_path / "phrases.json").write_text('{"refusing": ["nein"], "complying": ["sure"]}')
    _refused(tsdi(*command), "nein", "--phrases")
    (tmp_path / "phrases.json").write_text('{"refusing": ["sorry"], "complying": ["sure"]}')
    command += ["--n", 32, "--prompt-tokens", 8]
    assert tsdi(*command).exit_code == 0


def test_a_real_prompt_beyond_the_context(models, tmp_path):
    (tmp_path / "harmless.txt").write_text("bread\n" + "mill " * 200)
    result = tsdi(
        *estimate(
            models, tmp_path / "out", "--prompts", f"{tmp_path / 'harmless.txt'}:kind=harmless"
        )
    )
    assert result.exit_code == 2
    error = result.stderr.strip().splitlines()[-1]  # behind the note that counts the prompts
    assert error.startswith("Error: A harmless prompt")
    assert "128" in error
    assert not (tmp_path / "out").exists()


def test_a_package_that_a_checkpoint_needs_is_named(models, tmp_path):
    pair = _copy(models, tmp_path)
    config = json.loads((pair / "aligned" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (pair / "aligned" / "config.json").write_text(json.dumps(config))
    _refused(tsdi("generate", pair / "aligned", "--prompt", "mill"), "aligned", "install")


def test_an_estimate_killed_before_its_sums_are_removed_can_be_resumed(models, tmp_path):
    out, unlink = tmp_path / "bias", Path.unlink
    with pytest.MonkeyPatch.context() as patch:  # what a run leaves that is killed there
        patch.setattr(Path, "unlink", lambda p, **how: "partial" in p.name or unlink(p, **how))
        tsdi(*estimate(models, out))
    (out / "README.md").unlink()
    made = (out / "bias.safetensors").read_bytes()
    assert list(out.glob("partial-*"))
    assert tsdi(*estimate(models, out, "--resume")).exit_code == 0
    assert (out / "bias.safetensors").read_bytes() == made
    assert (out / "README.md").exists()
    assert not list(out.glob("partial-*"))
    _refused(tsdi(*estimate(models, out, "--resume")), "finished bias")


def test_a_bias_whose_tensors_were_never_written_can_be_resumed(models, bias, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(bias / "bias.safetensors", out)  # killed before the config, which comes last
    assert tsdi(*estimate(models, out, "--resume")).exit_code == 0


def test_an_answer_folder_in_use_is_refused_before_the_model_is_loaded(tmp_path):
    (tmp_path / "responses.jsonl").write_text("")
    command = ["generate", tmp_path, "--prompts", "everyday", "--out", tmp_path]
    _refused(tsdi(*command), "already holds answers", "--resume")


def test_two_prompts_are_refused_where_one_is_answered(models):
    command = ("generate", models / "aligned", "--prompt", "mill", "--prompt", "river")
    _refused(tsdi(*command), "2 of --prompt are given", "file")


@pytest.mark.parametrize("device", ["cuda:99", "cuda:x", "gpu", "meta"])
def test_a_device_that_is_not_there(models, device):
    command = ["generate", models / "aligned", "--prompt", "mill"]
    _refused(tsdi(*command, "--device-map", device), device)


def test_without_cuda_no_cuda_is_offered(models, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    refused = tsdi("generate", models / "aligned", "--prompt", "mill", "--device-map", "cuda:0")
    _refused(refused, "finds no cuda:0")
    assert refused.stderr.count("cuda") == 1


def test_what_an_interrupt_leaves_is_said_by_the_command(capsys):
    def interrupted(resume: bool = False) -> None:
        raise KeyboardInterrupt

    def without() -> None:
        raise KeyboardInterrupt

    for command, words in ((interrupted, "with --resume"), (without, "Interrupted.\n")):
        with pytest.raises(typer.Exit):
            frame.reports_errors(command)()
        assert words in capsys.readouterr().err


def test_an_engine_argument_that_is_none(models, tmp_path):
    command = ("generate", models / "aligned", "--prompt", "hi", "--engine-arg")
    _refused(tsdi(*command, "attn_implementatio=eager"), "did you mean 'attn_implementation'")
    _refused(tsdi(*command, "eager"), "--engine-arg 'eager'", "max_model_len=4096")
    judging = ("--judge", "refusal-phrases", "--judge-arg", "engine=vllm")
    out = ("--prompts", "everyday", "--out", tmp_path / "out")
    _refused(tsdi("evaluate", models / "aligned", *out, *judging), "argument engine", "wildguard")


def test_an_option_that_counts_once_is_not_given_twice():
    result = tsdi("evaluate", "run", "--judge", "refusal-phrases", "--judge", "keyword-list")
    _refused(result, "--judge is given 2 times. Give it once.")


def test_a_page_has_the_name_of_one(tmp_path):
    result = tsdi("compare", tmp_path, tmp_path, "--out", tmp_path / "page.txt")
    _refused(result, "page.txt is no page", ".html")
