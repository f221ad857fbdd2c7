"""``tsdi train`` against bare TRL, and a run that is killed against an unbroken one.

Throughput: the same DPO stage on a small Llama by a TRL script of a few lines, and by a recipe with
and without the bias monitor, in turns; steps per second of the training alone, as TRL reports them.
Kills: a ``tsdi train`` process gets SIGKILL after a random number of steps and goes on.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Claim, Report, parser, progress
from tsdi.files import parse_json
from tsdi.training.new_model import new_model, new_tokenizer
from tsdi.training.recipe import NewModel

SIZES = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "layers": 6,
    "heads": 4,
    "context": 256,
    "vocabulary": 4096,
}
STAGE: dict[str, Any] = {"batch_size": 16, "learning_rate": 5e-5, "max_length": 192, "beta": 0.1}
WORDS = "river mill field wheat barley kettle water bread salt time summer people window stone road"
BARE = """
import json, sys
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer
model, rows, out, steps = sys.argv[1:]
pairs = [json.loads(line) for line in open(rows)]
chat = lambda role, text: [{"role": role, "content": text}]
data = Dataset.from_list([{"prompt": chat("user", p["prompt"]),
    "chosen": chat("assistant", p["chosen"]), "rejected": chat("assistant", p["rejected"])}
    for p in pairs])
arguments = DPOConfig(out, max_steps=int(steps), per_device_train_batch_size=16, max_length=192,
    learning_rate=5e-5, lr_scheduler_type="cosine", warmup_steps=0.03, beta=0.1, seed=0,
    precompute_ref_log_probs=True, activation_checkpointing=False, use_cpu=True, bf16=False,
    save_strategy="no", report_to="none", disable_tqdm=True)
trainer = DPOTrainer(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
    args=arguments, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(model))
print("speed", trainer.train().metrics["train_steps_per_second"])
"""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--seed", type=int, default=0, help="of the kills")
    arguments = made.parse_args()
    steps, rounds, kills = (4, 1, 1) if arguments.quick else (24, 3, 2)
    settings = {"sizes": SIZES, "stage": STAGE, "steps": steps, "rounds": rounds, "kills": kills}
    report = Report("training", arguments, settings)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        speeds = throughput(folder, steps, rounds)
        killed = [kill(folder, steps, arguments.seed + n) for n in range(kills)]
    ratios = [ours / bare for ours, bare in zip(speeds["recipe"], speeds["bare"], strict=True)]
    watched = [one / bare for one, bare in zip(speeds["monitor"], speeds["bare"], strict=True)]
    claims = [
        Claim("steps per second, recipe / bare TRL, median of rounds", median(ratios), low=0.95),
        Claim("the same with the bias monitor", median(watched)),
        Claim(
            "killed and resumed: largest difference of a logged metric",
            max(one["difference"] for one in killed),
            high=0.0,
        ),
        Claim(
            "killed and resumed: models that differ in a bit",
            sum(o["models"] for o in killed),
            high=0,
        ),
    ]
    report.write(claims, {"steps_per_second": speeds, "kills": killed})


def median(values: list[float]) -> float:
    return float(np.median(values))


def prepare(folder: Path) -> None:
    """A model, and pairs of invented text of about 100 tokens."""
    draw = random.Random(0)
    words = WORDS.split()
    lengths = {"prompt": 30, "chosen": 70, "rejected": 60}
    pairs = [
        {key: " ".join(draw.choices(words, k=length)) for key, length in lengths.items()}
        for _ in range(400)
    ]
    rows = "".join(json.dumps(pair) + "\n" for pair in pairs)
    (folder / "pairs.jsonl").write_text(rows)
    sizes = NewModel.model_validate(SIZES)
    tokenizer = new_tokenizer([rows, *(chr(n) * 3 for n in range(0x4E00, 0x4E00 + 4000))], 4096)
    new_model(sizes, tokenizer, 0).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


def recipe(folder: Path, steps: int, **changes: Any) -> Path:
    stage = {"method": "dpo", "data": ["pairs"], "prefer": "safe", "steps": steps} | STAGE | changes
    content = {
        "name": "benchmark",
        "model": {"load": str(folder / "model")},
        "data": {"pairs": {"path": "pairs.jsonl"}},
        "stages": {"dpo": stage},
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(content))  # JSON is YAML
    return path


def command(folder: Path, out: str) -> list[str]:
    words = ["-m", "tsdi", "train", str(folder / "recipe.yaml"), "--out", str(folder / out)]
    return [sys.executable, *words]


def start(words: list[str], **options: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    return subprocess.Popen(
        words,
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def throughput(folder: Path, steps: int, rounds: int) -> dict[str, list[float]]:
    speeds: dict[str, list[float]] = {"bare": [], "recipe": [], "monitor": []}
    for number in range(rounds):
        order = list(speeds)
        random.Random(number).shuffle(order)
        for kind in order:
            progress(f"round {number + 1} of {rounds}: {kind}")
            out = f"{kind}-{number}"
            if kind == "bare":
                words = [str(folder / "model"), str(folder / "pairs.jsonl"), str(folder / out)]
                printed, _ = start([sys.executable, "-c", BARE, *words, str(steps)]).communicate()
                speeds[kind].append(float(printed.split("speed")[1]))
                continue
            recipe(folder, steps, **({"monitor": False} if kind == "recipe" else {}))
            assert start(command(folder, out)).wait() == 0
            log = parse_json((folder / out / "logs/dpo.json").read_bytes())
            speeds[kind].append(log["train_steps_per_second"])
    return speeds


def kill(folder: Path, steps: int, seed: int) -> dict[str, Any]:
    """Kill a run after a random step, go on, and compare with an unbroken one."""
    at = random.Random(seed).randrange(1, steps - 1)
    progress(f"kill after step {at}")
    recipe(folder, steps, checkpoint_every=1, trainer={"logging_steps": 1})
    whole, broken = f"whole-{seed}", f"broken-{seed}"
    assert start(command(folder, whole)).wait() == 0
    process = start(command(folder, broken))
    while not list((folder / broken / ".work/dpo").glob(f"checkpoint-{at}/trainer_state.json")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert start([*command(folder, broken), "--resume"]).wait() == 0
    one, other = (history(folder / name) for name in (whole, broken))
    keys = ("loss", "grad_norm", "rewards/margins", "logps/chosen")
    differences = [
        abs(float(a[key]) - float(b[key]))
        for a, b in zip(one, other, strict=True)
        for key in keys
        if key in a
    ]
    models = [(folder / name / "dpo/model.safetensors").read_bytes() for name in (whole, broken)]
    return {"step": at, "difference": max(differences), "models": int(models[0] != models[1])}


def history(out: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = parse_json((out / "logs/dpo.json").read_bytes())["history"]
    return entries


if __name__ == "__main__":
    main()
