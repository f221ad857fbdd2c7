"""The lines of docs/scale.md in two processes, each with a part of every layer."""

import re
import subprocess
import sys
from pathlib import Path

from tests import tiny
from tsdi import SafetyBias, estimate_bias
from tsdi.bias import Estimation
from tsdi.models.load import load_model, load_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def test_a_divided_model_gives_the_bias_of_a_whole_one(tmp_path):
    base = tiny.model("llama", 0, num_key_value_heads=2)  # which two processes can divide
    for name, model in (("aligned", tiny.moved(base)), ("reference", base)):
        model.save_pretrained(tmp_path / name)
        tiny.tokenizer().save_pretrained(tmp_path / name)
    (lines,) = re.findall(r"```python\n(import torch.distributed.*?)```", PAGE.read_text(), re.S)
    script = tmp_path / "split.py"
    script.write_text(lines.replace("acme/", "").replace("Estimation(", "Estimation(steps=4, "))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script.name]
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    divided = SafetyBias.from_pretrained(tmp_path / "my-bias")
    pair = [load_model(str(tmp_path / name)) for name in ("aligned", "reference")]
    tokenizer = load_tokenizer(str(tmp_path / "aligned"))
    whole = estimate_bias(*pair, tokenizer, Estimation(steps=4, pool="tokenizer"))
    assert (divided.values - whole.values).abs().max() <= 1e-6 * whole.values.abs().max()
    assert divided.info.prompts == whole.info.prompts
