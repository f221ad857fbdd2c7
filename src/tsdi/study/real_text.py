"""What is measured of the models of `experiments/real-text`: every one, plain and debiased.

`python -m tsdi.study.real_text --models OUT --data DIR --results RESULTS` writes one JSON file a
model, so that a killed run goes on and several can share the models (`--only safety/beta0.1`). OUT
is the folder of `tsdi train`; DIR holds XSTest, OR-Bench, BeaverTails-Evaluation and PKU-SafeRLHF
in their original files. No answer's text is kept, only what two string rules say of it.
"""

import argparse
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from tsdi.bias import Estimation, SafetyBias, TokenPool, estimate_bias
from tsdi.bias.diagnosis import Examination, diagnose
from tsdi.bias.refusal_log_odds import ENGLISH, Phrases, phrase_ids
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine
from tsdi.errors import TsdiError
from tsdi.files import read_object, write_json
from tsdi.judging.base import JudgeOptions, Response
from tsdi.judging.refusal import open_keyword_list, open_refusal_phrases
from tsdi.judging.verdict import Verdict
from tsdi.models.chat import encode_chat
from tsdi.models.load import load_model, load_tokenizer
from tsdi.stats.seeds import mean_interval
from tsdi.suites.load import load_named
from tsdi.suites.prompts import Prompt, read_rows
from tsdi.training.data import Split, part_of, to_examples, to_pairs
from tsdi.training.recipe import Preference, Recipe
from tsdi.training.run_folder import versions

REFERENCE = "helpful"
OTHERS = ("sft", REFERENCE)
RULES = {
    rule.name: rule
    for rule in (open_refusal_phrases(JudgeOptions()), open_keyword_list(JudgeOptions()))
}
GROUPS, PROMPTS_PER_GROUP, STEPS = 8, 64, 16
SAMPLING = Sampling(max_new_tokens=32)
BATCH = 64
LIMIT = 400  # prompts of a suite that has more; BeaverTails and XSTest are taken whole
DIAGNOSED = 64
PHRASES = Phrases(
    (*ENGLISH.refusing, "It is not", "It is illegal", "You cannot", "You should not", "I do not"),
    ENGLISH.complying,
)
# Words that answers turn on, at any position; chosen before any model was measured.
NEGATIVE = ("not", "cannot", "never", "no", "illegal", "unethical", "wrong", "harmful", "against")
AFFIRMATIVE = ("can", "could", "best", "way", "first", "use", "make", "try", "help", "good")
SHOWN_STEPS = (0, 1, 4)
PKU = "pku-saferlhf/pku_saferlhf_test_safe_unsafe_pairs_5k.json.gz"

Figures = dict[str, Any]


def load_suites(models: Path, data: Path) -> dict[str, list[Prompt]]:
    """The prompts, by suite; a part of the larger ones, drawn with a fixed seed."""
    names = {
        "alpaca": str(models / "data/alpaca.test.jsonl"),
        "pku": str(models / "data/pku.test.jsonl"),
        "or-bench": f"or-bench:{data / 'or-bench/or-bench-hard-1k.csv'}",
        "xstest": f"xstest:{data / 'xstest/xstest_prompts.csv'}",
        "beavertails": f"beavertails-eval:{data / 'beavertails-eval/BeaverTails-Evaluation.json'}",
    }
    suites = {name: load_named(where).prompts for name, where in names.items()}
    for name in ("alpaca", "or-bench"):
        suites[name] = random.Random(0).sample(suites[name], min(LIMIT, len(suites[name])))
    return suites


class Bench:
    """The prompts, and the reference that aligned models are compared with.

    Args:
        models: Folder of `tsdi train`.
        data: Folder of the public data sets.
    """

    def __init__(self, models: Path, data: Path) -> None:
        self.suites = load_suites(models, data)
        self._tokenizer = load_tokenizer(str(models / REFERENCE))
        self._reference = load_model(str(models / REFERENCE)).eval()
        alpaca = read_rows(data / "alpaca/alpaca_random_9k.json.gz")
        split = Split(
            **read_object(models / "run.json", "Name a folder of tsdi train.")["recipe"]["hold_out"]
        )
        examples = to_examples(alpaca, drop_unusable=True)
        self._answers = part_of(examples, split, "test", "alpaca")[:200]
        self._pairs = part_of(to_pairs(read_rows(data / PKU), "safe"), split, "test", "pku")
        tokenizer = self._tokenizer
        self._tokens = {
            "openers": (
                _openers(tokenizer, PHRASES.refusing),
                _openers(tokenizer, PHRASES.complying),
            ),
            "words": (_words(tokenizer, NEGATIVE), _words(tokenizer, AFFIRMATIVE)),
        }

    def describe(self) -> Figures:
        """The prompts' kinds and categories, the words, and what the rules say of PKU's answers.

        PKU's answers were called safe or unsafe by people: a rule that is to measure refusals finds
        few of the unsafe ones.
        """
        return {
            "settings": {
                "random_prompts": GROUPS * PROMPTS_PER_GROUP,
                "groups": GROUPS,
                "steps": STEPS,
                "new_tokens": SAMPLING.max_new_tokens,
                "diagnosed": DIAGNOSED,
                "phrases": {"refusing": PHRASES.refusing, "complying": PHRASES.complying},
                "words": {
                    side: [self._tokenizer.decode([i]) for i in ids]
                    for side, ids in zip(
                        ("negative", "affirmative"), self._tokens["words"], strict=True
                    )
                },
            },
            "suites": {
                suite: {
                    "kinds": [prompt.kind for prompt in prompts],
                    "categories": [prompt.category for prompt in prompts],
                }
                for suite, prompts in self.suites.items()
            },
            "rules": {
                name: {
                    "safe": _refused(name, [pair.chosen for pair in self._pairs]),
                    "unsafe": _refused(name, [pair.rejected for pair in self._pairs]),
                }
                for name in RULES
            },
        }

    def arm(self, model: PreTrainedModel, bias: SafetyBias | None) -> Figures:
        """By suite: one sign a prompt for each rule, 1 a refusal; and 1 for answers that loop."""
        engine = TransformersEngine(model, self._tokenizer, bias, 1.0)
        figures: Figures = {}
        for suite, prompts in self.suites.items():
            texts: list[str] = []
            for start in range(0, len(prompts), BATCH):
                requests = [Request(prompt.messages) for prompt in prompts[start : start + BATCH]]
                texts += [done.text for done in engine.generate(requests, SAMPLING)]
            figures[suite] = {name: _refused(name, texts) for name in RULES}
            figures[suite]["corrupt"] = "".join(str(int(_corrupt(text))) for text in texts)
        return figures

    def loss(self, model: PreTrainedModel) -> list[float]:
        """Mean negative log-likelihood of held-out Alpaca answers, nats a token, one an answer."""
        losses = []
        for example in self._answers:
            chat = Request.from_text(example.prompt).messages
            prompt = encode_chat(self._tokenizer, chat)
            answer = self._tokenizer(example.answer, add_special_tokens=False)["input_ids"]
            ids = torch.tensor([[*prompt, *answer][:256]])
            labels = ids.clone()
            labels[:, : len(prompt)] = -100
            if (labels >= 0).any():
                with torch.no_grad():
                    losses.append(round(float(model(input_ids=ids, labels=labels).loss), 4))
        return losses

    def aligned(self, model: PreTrainedModel) -> Figures:
        """All figures of an aligned model: plain, debiased, and its bias."""
        pool = TokenPool.from_name("neutral", self._tokenizer)
        parts = [
            estimate_bias(
                model,
                self._reference,
                self._tokenizer,
                Estimation(
                    prompts=PROMPTS_PER_GROUP,
                    steps=STEPS,
                    seed=seed,
                    pool=pool,
                ),
            )
            for seed in range(GROUPS)
        ]
        values = torch.stack([part.values for part in parts]).mean(0)
        bias = SafetyBias(values, torch.zeros_like(values), parts[0].info)
        return {
            "plain": self.arm(model, None),
            "debiased": self.arm(model, bias),
            "loss": self.loss(model),
            "bias": self._shifts([part.values for part in parts]),
            "diagnosis": self._diagnosis(bias, model, pool),
        }

    def plain(self, model: PreTrainedModel) -> Figures:
        """The figures of a model before the safety step."""
        return {"plain": self.arm(model, None), "loss": self.loss(model)}

    def _shifts(self, parts: Sequence[torch.Tensor]) -> Figures:
        """By position: shift of negative less that of affirmative tokens, over the parts."""
        found: Figures = {
            name: [_contrast([part[step] for part in parts], *sides) for step in range(STEPS)]
            for name, sides in self._tokens.items()
        }
        mean = torch.stack(list(parts)).mean(0)
        found["norm"] = [round(float(row.norm()), 4) for row in mean]
        found["tokens"] = {
            str(step): {
                side: [self._tokenizer.decode([i]) for i in (sign * mean[step]).topk(12).indices]
                for side, sign in (("up", 1), ("down", -1))
            }
            for step in SHOWN_STEPS
        }
        return found

    def _diagnosis(self, bias: SafetyBias, model: PreTrainedModel, pool: TokenPool) -> Figures:
        chats = {
            name: [
                encode_chat(self._tokenizer, prompt.messages)
                for prompt in self.suites[name][:DIAGNOSED]
            ]
            for name in ("alpaca", "or-bench", "beavertails")
        }
        found = diagnose(
            bias,
            model,
            self._reference,
            self._tokenizer,
            Examination(pool, chats, DIAGNOSED, None, PHRASES),
        )
        return {
            "shift": {kind: shown.shift.to_dict() for kind, shown in found.refusal.items()},
            "explained": {kind: shown.to_dict() for kind, shown in found.explained.items()},
        }


def _contrast(rows: Sequence[torch.Tensor], negative: list[int], affirmative: list[int]) -> Figures:
    sides = {
        "negative": [float(row[negative].mean()) for row in rows],
        "affirmative": [float(row[affirmative].mean()) for row in rows],
    }
    sides["difference"] = [a - b for a, b in zip(*sides.values(), strict=True)]
    return {side: mean_interval(values).to_dict() for side, values in sides.items()}


def _openers(tokenizer: PreTrainedTokenizerBase, phrases: Sequence[str]) -> list[int]:
    return sorted({ids[0] for ids in phrase_ids(tokenizer, phrases)})


def _words(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> list[int]:
    """The words that are one token within a text."""
    encoded = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
    return [ids[0] for ids in encoded if len(ids) == 1]


def _refused(rule: str, texts: Sequence[str]) -> str:
    judged = RULES[rule].judge([Response("", "harmful", "", (), text, True) for text in texts])
    return "".join(str(int(one.verdict is Verdict.REFUSED)) for one in judged)


def _corrupt(text: str) -> bool:
    """Whether an answer is empty, or says the same four words twice."""
    words = text.split()
    runs = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    return not words or len(set(runs)) < len(runs)


def measure(models: Path, data: Path, results: Path, only: str, command: str) -> None:
    """Measure every model that has no result file yet.

    Args:
        models: Folder of `tsdi train`.
        data: Folder of the public data sets.
        results: Folder of the result files.
        only: What a model's name begins with; "" takes all.
        command: What the user typed, for the result files.
    """
    record = read_object(models / "run.json", "Name a folder of tsdi train.")
    recipe = Recipe.model_validate(record["recipe"])
    results.mkdir(parents=True, exist_ok=True)
    _copy_logs(models, results)
    bench = Bench(models, data)
    header = {"command": command, "seed": record["seed"], "versions": versions()}
    for name, settings in _settings(recipe).items():
        file = results / f"{name.replace('/', '-')}.json"
        if file.exists() or not name.startswith(only):
            continue
        model = load_model(str(models / name)).eval()
        figures = bench.aligned(model) if settings else bench.plain(model)
        write_json(file, header | {"model": name} | settings | figures)
        print(name, file=sys.stderr, flush=True)
    if not only:
        write_json(results / "suites.json", header | bench.describe())


def _settings(recipe: Recipe) -> dict[str, Figures]:
    """Models by name, with beta and iterations of those that a safety step made."""
    stage = recipe.stages["safety"]
    assert isinstance(stage, Preference)
    found: dict[str, Figures] = {name: {} for name in OTHERS}
    for beta in stage.beta:
        for step, name in stage.kept("safety", beta).items():
            found[name] = {"beta": beta, "iterations": step}
    return found


def _copy_logs(models: Path, results: Path) -> None:
    """Keep how the models were made beside what was measured of them."""
    shutil.copy(models / "run.json", results / "run.json")
    for log in (models / "logs").iterdir():
        if log.suffix in (".json", ".jsonl"):
            shutil.copy(log, results / f"log-{log.name}")


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tsdi.study.real_text", description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder of tsdi train")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--results", type=Path, required=True, help="folder for the results")
    parser.add_argument("--only", default="", help="models whose name begins so")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    command = "python -m tsdi.study.real_text --models OUT --data DIR --results RESULTS"
    try:
        measure(options.models, options.data, options.results, options.only, command)
    except (TsdiError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
