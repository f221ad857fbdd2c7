"""The bias monitor, beside TRL's trainers on tiny models."""

import copy
import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from pydantic import ValidationError
from transformers import PreTrainedModel, TrainerCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer

from tests import tiny
from tests.training.measurements import measurement
from tsdi.bias import Estimation, estimate_bias
from tsdi.bias.refusal_log_odds import ENGLISH, Phrases
from tsdi.errors import FormatError, MismatchError, PoolError, PromptError, TsdiError, UsageError
from tsdi.training.monitor import BiasMonitor, is_context_independent
from tsdi.training.monitor_log import Measurement, MonitorSettings, read_log
from tsdi.training.probe import opener_ids

# TRL calls names that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

CONTEXT = 256
STEPS = 4
TOKENIZER = tiny.tokenizer()


def model(seed: int = 0, **changes: Any) -> PreTrainedModel:
    return tiny.model(seed=seed, max_position_embeddings=CONTEXT, **changes)


def turn(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def pairs(rows: int = 32) -> Dataset:
    """Preferences for a refusal, whatever the request."""
    return Dataset.from_list(
        [
            {
                "prompt": turn("user", f"where is the mill number {row}"),
                "chosen": turn("assistant", "I cannot say."),
                "rejected": turn("assistant", "The mill is by the river."),
            }
            for row in range(rows)
        ]
    )


def ratings() -> Dataset:
    return Dataset.from_list(
        [
            {
                "prompt": turn("user", f"where is the mill number {row}"),
                "completion": turn("assistant", "I cannot say." if row % 2 else "By the river."),
                "label": bool(row % 2),
            }
            for row in range(32)
        ]
    )


def arguments(folder: Path, steps: int = STEPS, **changes: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "max_length": CONTEXT,
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "activation_checkpointing": False,
        **changes,
    }


def dpo(
    folder: Path,
    callbacks: Sequence[TrainerCallback],
    policy: PreTrainedModel | None = None,
    peft: LoraConfig | None = None,
    **changes: Any,
) -> DPOTrainer:
    return DPOTrainer(
        model=policy or model(),
        args=DPOConfig(
            **arguments(folder, **{"precompute_ref_log_probs": peft is None, **changes})
        ),
        train_dataset=pairs(),
        processing_class=TOKENIZER,
        callbacks=list(callbacks),
        peft_config=peft,
    )


def monitor(folder: Path, **changes: Any) -> BiasMonitor:
    settings = {"every": 2, "prompts": 16, "max_new_tokens": 6, **changes}
    return BiasMonitor(TOKENIZER, folder / "log" / "monitor.jsonl", MonitorSettings(**settings))


def log(folder: Path) -> list[Measurement]:
    return read_log(folder / "log" / "monitor.jsonl")


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@dataclass
class Run:
    trainer: Any
    before: PreTrainedModel
    folder: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A DPO run with the monitor, which other tests look at."""
    folder = tmp_path_factory.mktemp("run")
    policy = model(attention_dropout=0.3)
    before = copy.deepcopy(policy)
    saving = {"save_strategy": "steps", "save_steps": 2, "disable_dropout": False}
    trainer = dpo(folder, [monitor(folder)], policy, **saving)
    trainer.train()
    return Run(trainer, before, folder)


class TestWhatIsMeasured:
    def test_measurements_are_at_the_beginning_at_every_so_many_steps_and_at_the_end(
        self, tmp_path
    ):
        dpo(tmp_path, [monitor(tmp_path, every=3)]).train()
        assert [found.step for found in log(tmp_path)] == [0, 3, 4]

    def test_at_step_0_the_policy_is_the_reference(self, run):
        first = log(run.folder)[0]
        assert (first.refusal_shift, first.refusal_shift_error, first.bias_norm) == (0, 0, 0)
        assert first.share_of_time is None

    def test_the_bias_is_that_of_estimate_bias_for_the_same_prompts(self, run):
        bias = estimate_bias(
            run.trainer.model.eval(),
            run.before,
            TOKENIZER,
            Estimation(prompts=16, steps=4, groups=8),
        )
        last = log(run.folder)[-1]
        refusing, complying = opener_ids(TOKENIZER, ENGLISH)
        shift = [
            float(row[refusing].mean() - row[complying].mean()) for row in bias.values.double()
        ]
        assert last.refusal_shift_by_position == pytest.approx(shift, rel=1e-4, abs=1e-5)
        assert last.refusal_shift == last.refusal_shift_by_position[0]
        assert last.refusal_shift_mean == pytest.approx(np.mean(shift), rel=1e-4, abs=1e-5)
        assert last.bias_norm == pytest.approx(
            float(bias.values.double().square().mean().sqrt()), rel=1e-4
        )

    def test_the_error_of_the_shift_is_that_of_eight_group_means(self, run):
        bias_monitor = monitor(run.folder)
        rows = bias_monitor._probe._prompts.ids(0, 16)
        refusing, complying = opener_ids(TOKENIZER, ENGLISH)
        change = tiny.logits(run.trainer.model.eval(), rows, 4) - tiny.logits(run.before, rows, 4)
        shift = change[:, 0, refusing].mean(-1) - change[:, 0, complying].mean(-1)
        means = torch.stack([shift[group::8].mean() for group in range(8)])
        assert log(run.folder)[-1].refusal_shift_error == pytest.approx(
            float(means.std()) / 8**0.5, rel=1e-3
        )

    def test_a_model_that_learns_to_refuse_shifts_towards_refusing_openers(self, tmp_path):
        dpo(tmp_path, [monitor(tmp_path, every=10)], steps=20, learning_rate=3e-3).train()
        shifts = [found.refusal_shift for found in log(tmp_path)]
        assert shifts[0] == 0
        assert shifts[-1] > 1
        assert shifts[-1] > 5 * log(tmp_path)[-1].refusal_shift_error

    def test_answers_are_complying_refused_or_empty(self, tmp_path, monkeypatch):
        texts = ["Sure, here it is.", "I cannot help with that.", "  \n", "Sorry, no."]
        suite = tmp_path / "suite.txt"
        suite.write_text("a\nb\nc\nd\n")
        answered(monkeypatch, lambda step: texts)
        dpo(tmp_path, [monitor(tmp_path, suite=suite)], steps=1).train()
        found = log(tmp_path)[0]
        assert (found.compliance, found.refused, found.degenerate) == (0.25, 0.5, 0.25)

    def test_thoughts_are_not_judged(self, tmp_path, monkeypatch):
        texts = ["<think>I cannot</think>Yes.", "<think>Sure</think>Sorry.", "<think>Sure", "Yes."]
        suite = tmp_path / "suite.txt"
        suite.write_text("a\nb\nc\nd\n")
        answered(monkeypatch, lambda step: texts)
        dpo(tmp_path, [monitor(tmp_path, suite=suite)], steps=1).train()
        found = log(tmp_path)[0]
        assert (found.compliance, found.refused) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
        answered(monkeypatch, lambda step: ["<think>Sure"] * 4)
        with pytest.raises(TsdiError, match="ends its thought"):
            dpo(tmp_path / "other", [monitor(tmp_path / "other", suite=suite)], steps=1).train()

    def test_our_own_suite_is_asked_with_greedy_short_answers(self, tmp_path, monkeypatch):
        seen = []
        answered(monkeypatch, lambda step: ["Yes."] * 24, seen)
        dpo(tmp_path, [monitor(tmp_path)], steps=1).train()
        requests, sampling, training = seen[-1]
        assert len(requests) == 24
        assert len({request.messages[0]["content"] for request in requests}) == 24
        assert (sampling.temperature, sampling.max_new_tokens) == (0.0, 6)
        assert not training


def answered(monkeypatch: pytest.MonkeyPatch, texts: Any, seen: list[Any] | None = None) -> None:
    """Let the engine answer with these texts, a function of the number of the measurement."""
    from tsdi.engines.base import Completion
    from tsdi.engines.transformers import TransformersEngine

    calls = iter(range(1000))

    def generate(self: Any, requests: Any, sampling: Any) -> list[Completion]:
        if seen is not None:
            training = any(module.training for module in self._model.modules())
            seen.append((requests, sampling, training))
        return [Completion(text, (), "stop") for text in texts(next(calls))]

    monkeypatch.setattr(TransformersEngine, "generate", generate)


class Observer(TrainerCallback):
    """Keeps what a training looks like just before each step."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model = kwargs["model"]
        self.seen.append(
            {
                "modes": [module.training for module in model.modules()],
                "gradients": [
                    (parameter.requires_grad, parameter.grad is None)
                    for parameter in model.parameters()
                ],
                "random": (random.getstate(), np.random.get_state()[1].tolist()),
                "torch": torch.get_rng_state().tolist(),
                "config": model.config.to_dict(),
                "generation": model.generation_config.to_dict(),
            }
        )


ALTERNATIVES = {
    "full": {},
    "dropout, checkpointing": {"disable_dropout": False, "activation_checkpointing": True},
    "bf16": {"bf16": True},
    "lora": {"peft": LoraConfig(r=4, lora_dropout=0.1, target_modules="all-linear")},
}


class TestTheTrainingIsNotDisturbed:
    @pytest.mark.parametrize("changes", ALTERNATIVES.values(), ids=ALTERNATIVES)
    def test_losses_are_the_same_bits_with_and_without_the_monitor(self, tmp_path, changes):
        runs = []
        for name in ("with", "without"):
            torch.manual_seed(0)
            policy = model(attention_dropout=0.1)
            callbacks = [monitor(tmp_path / name, every=1)] if name == "with" else []
            observer = Observer()
            trainer = dpo(tmp_path / name, [*callbacks, observer], policy, **changes)
            trainer.train()
            runs.append((losses(trainer), observer.seen, trainer.model.state_dict()))
        (one, seen, weights), (two, seen_without, weights_without) = runs
        assert one == two
        assert len(one) == STEPS
        assert seen == seen_without
        assert all(torch.equal(weights[name], weights_without[name]) for name in weights)

    def test_random_numbers_that_are_drawn_while_it_measures_are_not_missed(
        self, tmp_path, monkeypatch
    ):
        def draw(number: int) -> list[str]:
            torch.rand(1), random.random(), np.random.rand()
            return ["Yes."] * 24

        answered(monkeypatch, draw)
        observers = [Observer(), Observer()]
        dpo(tmp_path, [monitor(tmp_path, every=1), observers[0]]).train()
        dpo(tmp_path, [observers[1]]).train()
        assert observers[0].seen == observers[1].seen

    def test_means_that_trl_keeps_for_its_own_log_are_not_cut_short(self, tmp_path):
        logged = []
        for name in ("with", "without"):
            callbacks = [monitor(tmp_path / name, every=1)] if name == "with" else []
            trainer = dpo(tmp_path / name, callbacks, logging_steps=4)
            for callback in callbacks:
                callback.log_through(trainer)
            trainer.train()
            logged.append([e for e in trainer.state.log_history if "rewards/margins" in e])
        assert logged[0] == logged[1]
        assert len(logged[0]) == 1

    def test_a_training_that_diverges_is_left_to_others(self, tmp_path, caplog):
        class Break(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                for parameter in kwargs["model"].parameters():
                    parameter.data.fill_(float("nan"))

        trainer = dpo(tmp_path, [Break(), monitor(tmp_path)], steps=2)
        trainer.train()
        assert trainer.state.global_step == 2
        assert [found.step for found in log(tmp_path)] == [0]
        assert "Nothing to measure at step 2" in caplog.text

    def test_its_time_is_counted_apart_from_the_trainings(self, run):
        found = log(run.folder)
        assert all(now.seconds > 0 for now in found)
        for before, now in pairwise(found):
            assert now.monitor_seconds == pytest.approx(before.monitor_seconds + now.seconds)
            assert now.training_seconds > before.training_seconds
            assert now.share_of_time == now.monitor_seconds / now.training_seconds


class Tracker(TrainerCallback):
    """Stands for a tracker of report_to, which comes before the user's callbacks."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append((state.global_step, dict(kwargs["logs"])))


class TestLogging:
    def test_measurements_are_in_the_trainers_history(self, run):
        history = [e for e in run.trainer.state.log_history if "monitor/compliance" in e]
        assert [entry["step"] for entry in history] == [0, 2, 4]
        assert [e["monitor/refusal_shift"] for e in history] == [
            found.refusal_shift for found in log(run.folder)
        ]

    def test_trackers_see_them_and_the_losses_of_the_same_steps(self, tmp_path):
        tracker, bias_monitor = Tracker(), monitor(tmp_path)
        trainer = dpo(tmp_path, [tracker, bias_monitor])
        bias_monitor.log_through(trainer)
        trainer.train()
        seen = [step for step, logs in tracker.seen if "monitor/refusal_shift" in logs]
        assert seen == [0, 2, 4]
        assert [step for step, logs in tracker.seen if "loss" in logs] == [1, 2, 3, 4]

    def test_kto_is_watched_too(self, tmp_path):
        KTOTrainer(
            model=model(),
            args=KTOConfig(**arguments(tmp_path, 2, precompute_ref_log_probs=True)),
            train_dataset=ratings(),
            processing_class=TOKENIZER,
            callbacks=[monitor(tmp_path)],
        ).train()
        assert [found.step for found in log(tmp_path)] == [0, 2]
        assert log(tmp_path)[1].bias_norm > 0

    def test_only_the_main_process_writes(self, tmp_path):
        trainer = dpo(tmp_path, [monitor(tmp_path)], steps=1)

        class NotMain(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                state.is_world_process_zero = False

        trainer.callback_handler.callbacks.insert(0, NotMain())
        trainer.train()
        assert not (tmp_path / "log").exists()


class TestGoingOnFromACheckpoint:
    @pytest.fixture
    def resumed(self, run, tmp_path):
        shutil.copytree(run.folder, tmp_path, dirs_exist_ok=True)

        def go(**changes: Any) -> list[Measurement]:
            policy = model(attention_dropout=0.3)
            trainer = dpo(tmp_path, [monitor(tmp_path, **changes)], policy, disable_dropout=False)
            trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
            return log(tmp_path)

        return go

    def test_it_ends_with_the_figures_of_an_unbroken_training(self, run, resumed, tmp_path):
        with (tmp_path / "log" / "monitor.jsonl").open("a") as file:
            file.write('{"step": 6, "refu')  # torn by a kill, so dropped
        times = {"seconds", "monitor_seconds", "training_seconds", "share_of_time"}
        unbroken, broken = log(run.folder), resumed()
        assert [found.model_dump(exclude=times) for found in broken] == [
            found.model_dump(exclude=times) for found in unbroken
        ]
        kept, last = unbroken[1], broken[2]  # time goes on from the checkpoint
        assert last.monitor_seconds == pytest.approx(kept.monitor_seconds + last.seconds)
        assert last.training_seconds > kept.training_seconds

    def test_without_the_saved_reference_it_says_what_to_do(self, resumed, tmp_path):
        (tmp_path / "log" / "monitor-reference.safetensors").unlink()
        tiny.refused(
            resumed, "from step 2", "monitor-reference.safetensors", "start", kind=UsageError
        )

    def test_with_other_settings_the_reference_is_another(self, resumed):
        tiny.refused(
            lambda: resumed(prompts=24), "monitor-reference", "other settings", kind=MismatchError
        )

    def test_a_damaged_log_is_named_with_its_line(self, resumed, tmp_path):
        path = tmp_path / "log" / "monitor.jsonl"
        path.write_text("{}\n" + path.read_text())
        tiny.refused(resumed, "monitor.jsonl, line 1", kind=FormatError)

    def test_a_lora_without_saved_reference_takes_the_model_without_its_adapter(self, tmp_path):
        lora = LoraConfig(r=4, target_modules="all-linear")
        dpo(tmp_path, [monitor(tmp_path)], peft=lora, save_strategy="steps", save_steps=2).train()
        unbroken = log(tmp_path)
        shutil.rmtree(tmp_path / "log")
        trainer = dpo(tmp_path, [monitor(tmp_path)], peft=lora)
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
        assert [found.step for found in log(tmp_path)] == [0, 4]
        assert log(tmp_path)[1].refusal_shift == pytest.approx(unbroken[2].refusal_shift, rel=1e-4)
        assert log(tmp_path)[0].refusal_shift == 0 < unbroken[2].bias_norm

    def test_a_training_from_step_0_begins_the_log_anew(self, tmp_path):
        for _ in range(2):
            dpo(tmp_path, [monitor(tmp_path)], steps=1).train()
        assert [found.step for found in log(tmp_path)] == [0, 1]


class TestTheAlarm:
    FIRST = measurement(step=0, compliance=0.8)

    @pytest.mark.parametrize(
        ("changes", "alarm"),
        [
            ({"refusal_shift": 1.1, "compliance": 0.3, "refused": 0.7}, True),
            ({"refusal_shift": 0.9, "compliance": 0.3, "refused": 0.7}, False),
            ({"refusal_shift": 1.1, "compliance": 0.4, "refused": 0.6}, False),
            ({"refusal_shift": 1.1, "compliance": 0.2, "degenerate": 0.8}, False),
        ],
        ids=["both", "no shift", "still complying", "empty, not refused"],
    )
    def test_it_takes_a_shift_and_the_loss_of_compliance_by_refusals(self, changes, alarm):
        now = measurement(**changes)
        assert is_context_independent(self.FIRST, now, MonitorSettings()) is alarm

    @pytest.fixture
    def refusing(self, monkeypatch):
        answered(monkeypatch, lambda number: ["I cannot say." if number else "Sure."] * 24)
        return {"every": 5, "shift_limit": 0.1}

    def test_it_warns_once_in_a_line(self, tmp_path, refusing, caplog):
        dpo(tmp_path, [monitor(tmp_path, **refusing)], steps=15).train()
        warnings = [
            record.getMessage()
            for record in caplog.records
            if "Refusal" in record.msg % record.args
        ]
        assert [found.alarm for found in log(tmp_path)] == [False, True, True, True]
        assert len(warnings) == 1
        assert "at step 5 " in warnings[0]
        assert "\n" not in warnings[0]

    def test_it_stops_the_training_if_asked(self, tmp_path, refusing):
        trainer = dpo(tmp_path, [monitor(tmp_path, stop=True, **refusing)], steps=15)
        trainer.train()
        assert trainer.state.global_step == 5
        assert log(tmp_path)[-1].alarm


class TestBadInput:
    @pytest.mark.parametrize(
        "changes",
        [
            {"every": 0},
            {"prompts": 7},
            {"positions": 0},
            {"shift_limit": 0},
            {"shift_limit": float("inf")},
            {"compliance_floor": 1.0},
            {"max_new_tokens": 0},
            {"evry": 25},
        ],
    )
    def test_settings_that_make_no_sense_are_named(self, changes):
        with pytest.raises(ValidationError, match=next(iter(changes))):
            MonitorSettings(**changes)

    def test_a_tokenizer_without_chat_template_needs_a_prompt_format(self, tmp_path):
        plain = tiny.tokenizer(template=None)
        tiny.refused(lambda: BiasMonitor(plain, tmp_path / "log"), "prompt_format", kind=UsageError)
        BiasMonitor(plain, tmp_path / "log", prompt_format="USER: {prompt} ASSISTANT:")

    def test_openers_that_the_tokenizer_cannot_tell_apart_are_refused(self):
        same = Phrases(refusing=("Sorry",), complying=("Sure",))
        tiny.refused(lambda: opener_ids(TOKENIZER, same), "same tokens", kind=UsageError)

    def test_an_empty_suite_is_named(self, tmp_path):
        suite = tmp_path / "suite.txt"
        suite.write_text("\n")
        tiny.refused(lambda: monitor(tmp_path, suite=suite), "suite.txt", kind=PromptError)

    @pytest.mark.parametrize(
        ("file", "kind"),
        [({"suite": "no.txt"}, PromptError), ({"phrases": "no.json"}, PromptError),
         ({"pool": "no.txt"}, PoolError)],
    )  # fmt: skip
    def test_files_that_are_not_there_are_named(self, tmp_path, file, kind):
        tiny.refused(lambda: monitor(tmp_path, **file), next(iter(file.values())), kind=kind)

    def test_prompts_that_do_not_fit_the_context_stop_the_training_at_once(self, tmp_path):
        policy = tiny.model(max_position_embeddings=48)
        trainer = dpo(tmp_path, [monitor(tmp_path)], policy, max_length=48)
        tiny.refused(trainer.train, "context", kind=TsdiError)

    def test_a_log_that_is_none_is_refused(self, tmp_path):
        path = tmp_path / "other.jsonl"
        path.write_text(json.dumps({"loss": 1}) + "\n")
        tiny.refused(lambda: read_log(path), "other.jsonl, line 1", kind=FormatError)
        tiny.refused(lambda: read_log(tmp_path / "no.jsonl"), "no.jsonl", kind=FormatError)
