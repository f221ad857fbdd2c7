"""What the bias monitor costs by default: two DPO trainings that take turns, one of them with it.

The model is a small Llama, on one thread. The figure is the monitor's own seconds over those of the
training that it watches; the ratio of the two trainings' seconds, which also holds what the monitor
does not see of itself, stands beside it. Trainings take turns every five steps.
"""

import tempfile
import threading
import time
from importlib.resources import files
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainerCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from benchmarks.common import Claim, Report, parser, progress, random_model
from tsdi.training.monitor import BiasMonitor
from tsdi.training.monitor_log import MonitorSettings, read_log
from tsdi.training.new_model import new_tokenizer

LLAMA = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
PAIRS, BATCH, LENGTH, TURN, RESAMPLES = 160, 16, 200, 5, 2000


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--steps", type=int, default=75)
    arguments = made.parse_args()
    torch.set_num_threads(1)
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    model = LLAMA | (small if arguments.quick else {})
    steps = 10 if arguments.quick else arguments.steps
    settings = {
        "model": model,
        "steps": steps,
        "batch_size": BATCH,
        "tokens": LENGTH,
        "steps_in_a_turn": TURN,
        "monitor": MonitorSettings().model_dump(mode="json"),
        "seeds": {"model": 0, "training": 0, "bootstrap": 0},
    }
    report = Report("monitor", arguments, settings)
    required = None if arguments.quick else 0.05  # a model of that size is all overhead
    with tempfile.TemporaryDirectory() as folder:
        seconds, found = measure(Path(folder), model, steps)
    own = found[-1]["monitor_seconds"]
    share = own / (sum(seconds["with"]) - own)  # its own share_of_time holds the other's turns
    ratio, interval = ratio_interval(seconds)
    claims = [
        Claim("monitor's seconds / training's", share, high=required),
        Claim("seconds with / without", ratio, interval=interval),
        Claim("seconds of one measurement", float(np.median([one["seconds"] for one in found]))),
        Claim("seconds of one step", sum(seconds["without"]) / steps),
    ]
    report.write(claims, {"seconds_of_turns": seconds, "measurements": found})


def measure(
    folder: Path, model: dict[str, Any], steps: int
) -> tuple[dict[str, list[float]], list[dict[str, Any]]]:
    """Seconds of every turn of both trainings, and what the monitor wrote."""
    tokenizer = small_tokenizer()
    monitor = BiasMonitor(tokenizer, folder / "monitor.jsonl")
    turns = Turns(("with", "without"))
    trainers = {
        name: small_trainer(
            small_config(folder / name, steps),
            random_model("llama", 0, model),
            tokenizer,
            [_Begin(turns, name), *callbacks, _End(turns, name)],
        )
        for name, callbacks in (("with", [monitor]), ("without", []))
    }
    threads = [threading.Thread(target=train, args=(one,)) for one in trainers.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [one.model_dump(mode="json") for one in read_log(folder / "monitor.jsonl")]
    return turns.seconds, found


def train(trainer: DPOTrainer) -> None:
    torch.set_num_threads(1)  # it is said for each of Python's threads
    trainer.train()


class Turns:
    """Lets one of several trainings run at a time, and measures each of its turns."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.seconds: dict[str, list[float]] = {name: [] for name in names}
        self._names = names
        self._turn = names[0]
        self._began = 0.0
        self._changed = threading.Condition()

    def take(self, name: str) -> None:
        """Wait for a training's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn == name)
        self._began = time.perf_counter()

    def end(self, name: str) -> None:
        """Let the other training go on."""
        self.seconds[name].append(time.perf_counter() - self._began)
        if name == self._names[-1]:
            progress(f"monitor: {len(self.seconds[name])} turns, {sum(self.seconds[name]):.0f} s")
        with self._changed:
            self._turn = self._names[(self._names.index(name) + 1) % len(self._names)]
            self._changed.notify_all()


class _Begin(TrainerCallback):
    """Comes before the monitor."""

    def __init__(self, turns: Turns, name: str) -> None:
        self._turns = turns
        self._name = name

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._turns.take(self._name)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step and state.global_step % TURN == 0:
            self._turns.take(self._name)


class _End(TrainerCallback):
    """Comes after the monitor."""

    def __init__(self, turns: Turns, name: str) -> None:
        self._turns = turns
        self._name = name

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % TURN == 0:
            self._turns.end(self._name)


def small_tokenizer() -> PreTrainedTokenizerFast:
    """Trained on the text of the default pool."""
    text = files("tsdi.bias").joinpath("neutral.txt").read_text(encoding="utf-8")
    return new_tokenizer([text], LLAMA["vocab_size"])


def small_config(folder: Path, steps: int) -> DPOConfig:
    """Settings of a DPO training on the CPU that saves nothing."""
    return DPOConfig(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=1e-4,
        max_length=LENGTH,
        precompute_ref_log_probs=True,
        activation_checkpointing=False,
        use_cpu=True,
        bf16=False,
        seed=0,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=1000,
    )


def small_trainer(
    config: DPOConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    callbacks: list[TrainerCallback],
) -> DPOTrainer:
    """A DPO trainer over random words, each answer of the same length."""
    return DPOTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(pairs(tokenizer)),
        processing_class=tokenizer,
        callbacks=callbacks,
    )


def pairs(tokenizer: PreTrainedTokenizerFast) -> list[dict[str, Any]]:
    """Pairs of random texts; the trainer cuts them to the length."""
    words = [tokenizer.decode([i]) for i in range(300, len(tokenizer))]
    drawn = cycle(np.random.default_rng(0).permutation(words))

    def text(number: int) -> str:
        return " ".join(islice(drawn, number))

    return [
        {
            "prompt": [{"role": "user", "content": text(40)}],
            "chosen": [{"role": "assistant", "content": text(LENGTH)}],
            "rejected": [{"role": "assistant", "content": text(LENGTH)}],
        }
        for _ in range(PAIRS)
    ]


def ratio_interval(seconds: dict[str, list[float]]) -> tuple[float, tuple[float, float]]:
    """Seconds with over seconds without, and its 95 % bootstrap interval over pairs of turns."""
    arms = np.array([seconds["with"], seconds["without"]])
    turns = arms.shape[1]
    drawn = np.random.default_rng(0).integers(0, turns, (RESAMPLES, turns))
    ratios = arms[0][drawn].sum(1) / arms[1][drawn].sum(1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(arms[0].sum() / arms[1].sum()), (float(low), float(high))


if __name__ == "__main__":
    main()
