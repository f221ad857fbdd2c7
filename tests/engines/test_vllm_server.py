"""vLLM's own server under mixed requests at once, some of which are left by their clients."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines import cases

pytestmark = pytest.mark.skipif("vllm" in cases.NOT_RUN, reason="vllm is not installed, so not run")


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
