"""What debiasing costs in capability: MMLU and held-out answers, asked through lm_eval.

`python -m experiments.smollm2.capability --data DATA --models models --study smollm2-study` takes
the models, biases and chosen settings of the study in this folder, and writes every answer to
`experiments/smollm2/capability.json`. Nothing is generated: choices and answers are scored. On one
core it takes some twenty minutes.
"""

import argparse
import gzip
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import torch
from experiments import HERE
from experiments.smollm2.prompts import mmlu_rows
from experiments.smollm2_tables import RESULTS
from lm_eval.tasks import TaskManager
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tsdi.baselines.shifts import random_shift
from tsdi.bias import SafetyBias
from tsdi.bias.info import versions
from tsdi.bias.lm_head import read_on
from tsdi.files import write_json
from tsdi.harness.lm_eval_model import DebiasedLM
from tsdi.study.answers import Answers
from tsdi.study.config import read_study
from tsdi.study.family import ModelFamily
from tsdi.study.grid import open_family
from tsdi.study.plan import plan
from tsdi.study.results import read_results
from tsdi.study.rule_engines import tsdi_bias
from tsdi.study.rules import RULES
from tsdi.study.settings import Setting

FILE = HERE / "smollm2" / "capability.json"
STUDY = HERE / "smollm2" / "study.yaml"
LETTERS = "ABCD"
EACH = 2
"""Questions of a subject of MMLU; the first of them is asked by letters, too."""
MOST_CHARACTERS = 1000
"""Of a question of MMLU and its choices; longer ones take most of the time."""
ANSWERS = 64
"""Questions of Dolly."""
TOKENS = 16
"""Of an answer, as many as a bias has steps; shorter answers are left out."""
Row = dict[str, Any]
Rule = tuple[SafetyBias, float | None]
"""A bias and its strength, None for a condition's."""


def by_hash(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order of the hashes of their questions."""
    return sorted(rows, key=lambda row: hashlib.sha256(row["question"].encode()).hexdigest())


def mmlu_questions(subjects: Mapping[str, list[list[str]]], each: int) -> list[Row]:
    """As many questions of every subject, bare, and in the words of lm_eval's own task."""
    found: list[Row] = []
    for subject, rows in subjects.items():
        about = subject.replace("_", " ")
        some = []
        for question, *choices, right in rows:
            text = question.strip()
            shown = "\n".join(f"{a}. {b}" for a, b in zip(LETTERS, choices, strict=True))
            lettered = (
                f"The following are multiple choice questions (with answers) about {about}.\n\n"
                f"{text}\n{shown}\nAnswer:"
            )
            row = {"question": text, "choices": choices, "right": LETTERS.index(right)}
            if len(lettered) <= MOST_CHARACTERS:
                some.append({**row, "lettered": lettered})
        found += by_hash(some)[:each]
    return found


def answered(rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase, number: int) -> list[Row]:
    """Questions with the beginning of their own answer, then those of the three next questions.

    Beginnings have `TOKENS` tokens, which are also theirs when they are read as text; `first` is
    the text of the first one.
    """
    found = []
    for row in rows:
        ids = tokenizer(row["output"].strip(), add_special_tokens=False)["input_ids"][:TOKENS]
        begun, first = tokenizer.decode(ids), tokenizer.decode(ids[:1])
        again = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (begun, first)]
        if len(ids) == TOKENS and again == [ids, ids[:1]]:
            found.append({"question": row["instruction"].strip(), "begun": begun, "first": first})
    some = by_hash({row["question"]: row for row in found}.values())[:number]
    begun = [row["begun"] for row in some]
    return [
        {
            "question": row["question"],
            "choices": [begun[(place + more) % len(some)] for more in range(len(LETTERS))],
            "right": 0,
            "first": row["first"],
        }
        for place, row in enumerate(some)
    ]


def dolly_rows(data: Path) -> list[Row]:
    """Questions of Dolly that need no text beside them, with the answers that people wrote."""
    rows = json.loads(gzip.decompress((data / "dolly" / "dolly_3k.json.gz").read_bytes()))
    return [row for row in rows if row["category"] in ("open_qa", "general_qa")]


def task(name: str, rows: Sequence[Row], target: str, **how: Any) -> dict[str, Any]:
    """A task of lm_eval on rows at hand; answers are choices unless it is said how else."""
    choice = {
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "metric_list": [{"metric": one} for one in ("acc", "acc_norm")],
    }
    return {
        "task": name,
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(list(rows))},
        "test_split": "test",
        "doc_to_text": "question",
        "doc_to_target": target,
        "target_delimiter": "",
        **(how or choice),
    }


def tasks(questions: Sequence[Row], answers: Sequence[Row]) -> list[dict[str, Any]]:
    """MMLU by texts and by letters, own answers among others', and own answers' first tokens."""
    by_letter = [
        {**row, "question": row["lettered"], "choices": list(LETTERS)} for row in questions[::EACH]
    ]
    return [
        task("mmlu", questions, "right"),
        task("letters", by_letter, "right"),
        task("answers", answers, "right"),
        task("first", answers, "first", output_type="loglikelihood"),
    ]


class ReadOnce(DebiasedLM):
    """`tsdi-hf` that reads a question once, for all of its choices and all rules of a model.

    It keeps the inputs of the output layer at the places that are scored.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        rule: What is subtracted.
        read: What has been read, [places, hidden] by token ids; it is added to.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        rule: Rule,
        read: dict[tuple[int, ...], Tensor],
    ) -> None:
        # One text at a time, so that none is padded; what was read is read in no batch anyway.
        super().__init__(model, *rule, tokenizer=tokenizer, batch_size=1)
        self._read = read

    def _loglikelihood_tokens(
        self, requests: Sequence[Any], disable_tqdm: bool = True, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        by_context: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
        for _, context, continuation in requests:
            by_context.setdefault(tuple(context), set()).add(tuple(continuation[:-1]))
        for context, begun in by_context.items():
            if any((*context, *one) not in self._read for one in begun):
                self._read_choices(context, sorted(begun))
        return super()._loglikelihood_tokens(requests, True, override_bs)

    def _read_choices(self, context: tuple[int, ...], begun: Sequence[tuple[int, ...]]) -> None:
        """Read a context, then all choices behind it but for their last tokens."""
        ids, longest = torch.tensor([context]), max(map(len, begun))
        step = read_on(self.model, ids, torch.ones_like(ids), None, choose=False)
        more = step.inputs[:, :0].expand(len(begun), -1, -1)
        if longest:
            step.cache.batch_repeat_interleave(len(begun))
            padded = torch.tensor([[*one, *[0] * (longest - len(one))] for one in begun])
            mask = torch.ones(len(begun), len(context) + longest, dtype=torch.long)
            more = read_on(self.model, padded, mask, step.cache, choose=False).inputs
        for one, inputs in zip(begun, more, strict=True):
            found = torch.cat([step.inputs[0, -1:], inputs[: len(one)]])
            self._read[(*context, *one)] = found

    @torch.no_grad()
    def _model_call(
        self, inps: Tensor, attn_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Logits at the places that are scored, [1, places, vocab]."""
        found = self._read[tuple(inps[0].tolist())]
        logits: Tensor = self.model.get_output_embeddings()(found[None])
        return logits


def asked(lm: DebiasedLM, of: list[dict[str, Any]]) -> dict[str, list[Row]]:
    """What lm_eval finds, by task and row: the row, log-likelihoods of its choices, metrics."""
    results = lm_eval.simple_evaluate(
        lm,
        tasks=of,
        apply_chat_template=True,
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),
    )
    return {
        name: sorted(samples, key=lambda sample: int(sample["doc_id"]))
        for name, samples in results["samples"].items()
    }


def summary(found: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """The choices that are likeliest, as letters, and log-likelihoods of own answers.

    Of MMLU's texts it is the choice that is likeliest by the character, as in lm_eval's `acc_norm`;
    `whole` and `first` are of the own answers and of their first tokens.
    """
    return {
        "mmlu": "".join(choice(one, by_character=True) for one in found["mmlu"]),
        "letters": "".join(map(choice, found["letters"])),
        "answers": "".join(map(choice, found["answers"])),
        "whole": [round(likelihoods(one)[0], 3) for one in found["answers"]],
        "first": [round(likelihoods(one)[0], 3) for one in found["first"]],
    }


def choice(sample: Row, by_character: bool = False) -> str:
    """The letter of the choice that is likeliest."""
    found = likelihoods(sample)
    if by_character:
        texts = sample["doc"]["choices"]
        found = [score / len(text) for score, text in zip(found, texts, strict=True)]
    return LETTERS[found.index(max(found))]


def likelihoods(sample: Row) -> list[float]:
    """Log-likelihoods of a row's choices, or of its answer alone."""
    return [float(score) for score, _ in sample["filtered_resps"]]


def rules_of(family: ModelFamily, chosen: Mapping[str, Setting]) -> dict[str, Rule]:
    """The rules of one seed's model; the random shift is as strong as tuned TSDI."""
    tuned, conditioned = chosen["tsdi-tuned"], chosen["conditioned"]
    condition = family.conditions.of("aligned", family.model("aligned"), conditioned)
    shift = random_shift(family.bias(tuned), 0).scale(_strength(tuned))
    return {
        "plain": (family.bias(tuned), 0.0),
        "tsdi": (tsdi_bias(family, chosen["tsdi"]), 1.0),
        "tsdi-tuned": (tsdi_bias(family, tuned), 1.0),
        "random-shift": (shift, 1.0),
        "conditioned": (tsdi_bias(family, conditioned).with_condition(condition), None),
    }


def chosen_settings(answers: Answers, seed: int) -> dict[str, Setting]:
    """The settings that the study chose for the model of a seed, by the rules above."""
    rules = {rule.name: rule.rule for rule in answers.results.rules}
    found: dict[str, Setting] = {"plain": {"strength": 0.0}}
    for name in ("tsdi", "tsdi-tuned", "conditioned"):
        cell = answers.test_cells(name, seed, answers.results.main)[0]
        found[name] = {**RULES[rules[name]].parameters, **cell.setting}
    return {**found, "random-shift": found["tsdi-tuned"]}


def _strength(setting: Setting) -> float:
    return float(setting["strength"] or 0.0)


def measure(data: Path, models: Path, study: Path) -> dict[str, Any]:
    """Ask all models by all rules."""
    made = plan(read_study(STUDY), models, STUDY.parent, study)
    answers = Answers(read_results(RESULTS))
    questions = mmlu_questions(mmlu_rows(data), EACH)
    families = [open_family(made, member) for member in made.members]
    own = answered(dolly_rows(data), families[0].tokenizer, ANSWERS)
    every = tasks(questions, own)
    found: dict[str, list[dict[str, Any]]] = {}
    while families:  # one model in memory at a time
        family = families.pop(0)
        chosen = chosen_settings(answers, family.member.seed)
        rules = rules_of(family, chosen)
        if not found:
            lm = ReadOnce(family.model("reference"), family.tokenizer, rules["plain"], {})
            found["reference"] = [summary(asked(lm, every))]
        read: dict[tuple[int, ...], Tensor] = {}
        for name, rule in rules.items():
            lm = ReadOnce(family.model("aligned"), family.tokenizer, rule, read)
            about = {"seed": family.member.seed, "strength": _strength(chosen[name])}
            found.setdefault(name, []).append({**about, **summary(asked(lm, every))})
    return {
        "right": "".join(LETTERS[row["right"]] for row in questions),
        "tokens": TOKENS,
        "rules": found,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the public data")
    parser.add_argument("--models", type=Path, required=True, help="the study's models and prompts")
    parser.add_argument("--study", type=Path, required=True, help="the study's folder")
    given = parser.parse_args()
    found = measure(given.data, given.models, given.study)
    about = {
        "command": "python -m experiments.smollm2.capability --data DATA --models models"
        " --study smollm2-study",
        "versions": {
            "python": platform.python_version(),
            **versions(),
            "lm_eval": importlib.metadata.version("lm_eval"),
        },
        "machine": {"system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count()},
    }
    write_json(FILE, about | found)


if __name__ == "__main__":
    main()
