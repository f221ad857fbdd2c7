"""Shards and ``tsdi gather`` on the command line."""

import json

import pytest

from tests.cli.conftest import estimate, tsdi


def said(result):
    """Standard error of a refusal, one line of it."""
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_shards_of_an_estimate_become_the_bias(models, tmp_path):
    folders = [tmp_path / "s1", tmp_path / "s2"]
    for number, folder in enumerate(folders, start=1):
        result = tsdi(*estimate(models, folder, "--shard", f"{number}/2", "--json"))
        assert result.exit_code == 0, result.output
        start = 16 * (number - 1)
        assert json.loads(result.stdout) == {
            "out": str(folder),
            "shard": f"{number}/2",
            "prompts": [start, start + 16],
        }
    out = tmp_path / "all"
    result = tsdi("gather", *folders, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"tsdi estimate {models / 'aligned'}" in result.stdout.replace("\n", "")
    assert "is missing" in said(tsdi("gather", folders[0], "--out", tmp_path / "one"))
    result = tsdi(*estimate(models, out, "--no-diagnosis", "--resume"))
    assert result.exit_code == 0, result.output
    assert sorted(file.name for file in out.glob("*.*")) == [
        "README.md",
        "bias.safetensors",
        "bias_config.json",
    ]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--shard", "9/8"), "There is no shard '9/8'"),
        (("--shard", "1/33"), "32 prompts make 32 shards at most"),
        (("--shard", "1/2", "--order", "1"), "once the shards are gathered"),
        (("--shard", "1/2", "--phrases", "german"), "has no effect on a shard"),
        (("--shard", "1/2", "--prompts", "everyday"), "--prompts has no effect on a shard"),
    ],
)
def test_what_a_shard_of_an_estimate_cannot_do_is_refused(models, tmp_path, options, problem):
    assert problem in said(tsdi(*estimate(models, tmp_path / "out", *options)))
    assert not (tmp_path / "out").exists()


def test_a_shard_needs_prompts(tmp_path):
    assert "--shard needs --prompts" in said(tsdi("evaluate", tmp_path, "--shard", "1/2"))
    one = tsdi("generate", "model", "--prompt", "hello", "--shard", "1/2")
    assert "--shard needs --prompts" in said(one)
