"""The command line on real prompts, killed and resumed, with random models of real architectures.

DIR holds xstest/xstest_prompts.csv, alpaca-eval/alpaca_eval_outputs.json and mmlu/mmlu.zip. For
every architecture: a byte-level BPE tokenizer is trained on MMLU text, a random model and a changed
copy of it are saved, and then, each in a process of its own,

* ``tsdi estimate`` with MMLU text as the pool and real prompts for the diagnosis, once unbroken,
  and once killed with SIGKILL in the middle and resumed;
* ``tsdi show``;
* ``tsdi generate`` with the bias on 1,000 prompts, once unbroken, and once killed with SIGKILL
  three times at random moments and resumed.
"""

import csv
import io
import json
import random
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from benchmarks.commands import has_lines, run, run_and_kill, whole_lines
from benchmarks.common import Claim, Report, moved, parser, progress, random_model
from tsdi import SafetyBias
from tsdi.bias.accumulate import GroupSums

VOCAB, STEPS, RANDOM_PROMPTS, NEW_TOKENS, BATCH, KILLS = 4000, 8, 1024, 6, 16, 3
SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SPECIAL = ["<pad>", "<s>", "</s>", "[INST]", "[/INST]"]
MODELS: dict[str, dict[str, Any]] = {
    "llama": SMALL,
    "qwen2": SMALL,
    "gemma2": SMALL
    | {"head_dim": 16, "query_pre_attn_scalar": 16, "final_logit_softcapping": 30.0},
    "gpt2": {
        "vocab_size": VOCAB,
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 4096,
        "bos_token_id": 2,
        "eos_token_id": 2,
    },
}
WITHOUT_TEMPLATE = ("gpt2",)
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} "
    "[/INST]{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, required=True)
    made.add_argument("--lanes", type=int, default=2, help="architectures at a time")
    arguments = made.parse_args()
    logging.disable_progress_bar()
    kinds = ["llama"] if arguments.quick else list(MODELS)
    number = 100 if arguments.quick else 1000
    settings = {
        "models": {kind: MODELS[kind] for kind in kinds},
        "prompts": number,
        "random_prompts": RANDOM_PROMPTS,
        "steps": STEPS,
        "new_tokens": NEW_TOKENS,
        "batch_size": BATCH,
        "kills": KILLS,
        "threads_of_a_command": 1,
        "seeds": {"models": 0, "changes": 1, "order": 0, "kills": "the architecture's name"},
    }
    report = Report("real_text", arguments, settings)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.lanes) as lanes:
        corpus = Corpus.write(arguments.data, Path(folder), number)
        found = list(lanes.map(lambda kind: examine(kind, corpus, Path(folder) / kind), kinds))
    raw = dict(zip(kinds, found, strict=True))
    generated = [row["generate"] for row in found]
    wrong = [row["lost"] + row["doubled"] + row["torn"] for row in generated]
    deviation = max(row["estimate"]["deviation"] for row in found)
    claims = [
        Claim("models whose commands all ran", len(found), low=len(kinds)),
        Claim(
            "estimates killed and resumed", sum(r["estimate"]["killed"] for r in found), len(kinds)
        ),
        Claim("resumed - unbroken bias, share of scale", deviation, high=1e-6),
        Claim("runs of generate killed", sum(r["killed"] for r in generated), KILLS * len(kinds)),
        Claim("answers on disk", sum(r["records"] for r in generated), number * len(kinds)),
        Claim("answers lost, doubled or torn", sum(wrong), high=0),
        Claim(
            "answers that differ from an unbroken run's",
            sum(r["differing"] for r in generated),
            high=0,
        ),
    ]
    report.write(claims, raw)


@dataclass(frozen=True)
class Corpus:
    """Text and prompt files made from the data.

    Attributes:
        lines: MMLU's questions and choices.
        pool: The same as a text file.
        prompts: XSTest's prompts, filled up with AlpacaEval's.
        harmless: A few of XSTest's safe prompts.
        harmful: A few of XSTest's unsafe ones.
    """

    lines: list[str]
    pool: Path
    prompts: Path
    harmless: Path
    harmful: Path

    @classmethod
    def write(cls, data: Path, folder: Path, number: int) -> "Corpus":
        """Read the data and write the files that the commands take."""
        lines = _mmlu(data / "mmlu" / "mmlu.zip")
        with (data / "xstest" / "xstest_prompts.csv").open(encoding="utf-8", newline="") as file:
            xstest = list(csv.DictReader(file))
        safe, unsafe = (
            [
                _row(f"xstest-{r['id']}", r["prompt"], r["type"])
                for r in xstest
                if r["label"] == label
            ]
            for label in ("safe", "unsafe")
        )
        text = (data / "alpaca-eval" / "alpaca_eval_outputs.json").read_text(encoding="utf-8")
        alpaca = [
            _row(f"alpaca-{i}", row["instruction"], row["dataset"])
            for i, row in enumerate(json.loads(text))
        ]
        mixed = [*safe, *unsafe, *alpaca][:1000]
        random.Random(0).shuffle(mixed)  # short beside long prompts, so that batches are padded
        files = {
            "prompts": mixed[:number],
            "harmless": [row | {"category": ""} for row in safe[:16]],
            "harmful": [row | {"category": ""} for row in unsafe[:16]],
        }
        paths = {name: folder / f"{name}.jsonl" for name in files}
        for name, rows in files.items():
            paths[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
        pool = folder / "mmlu.txt"
        pool.write_text("\n".join(lines), encoding="utf-8")
        return cls(lines, pool, **paths)


def _mmlu(path: Path) -> list[str]:
    lines = []
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith("data/test/") and name.endswith(".csv"):
                rows = csv.reader(io.StringIO(archive.read(name).decode("utf-8"), newline=""))
                lines += [cell for row in rows for cell in row[:5]]
    return lines


def _row(name: str, prompt: str, category: str) -> dict[str, str]:
    return {"id": name, "prompt": prompt, "category": category}


def examine(kind: str, corpus: Corpus, folder: Path) -> dict[str, Any]:
    """Make one pair of models, and run every command on it."""
    tokenizer = train_tokenizer(corpus.lines, None if kind in WITHOUT_TEMPLATE else TEMPLATE)
    reference = random_model(kind, 0, MODELS[kind], gain=3)
    pair = {"reference": reference, "aligned": moved(reference, scale=0.2, seed=1)}
    for name, model in pair.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    progress(f"real_text: {kind}: models saved")
    dice = random.Random(kind)
    found = {"estimate": check_estimate(corpus, folder, dice)}
    shown = json.loads(run("show", folder / "bias", "--json"))
    found["show"] = {key: shown[key] for key in ("steps", "vocab", "prompts", "paths", "strength")}
    progress(f"real_text: {kind}: bias estimated, resumed and shown")
    found["generate"] = check_generate(corpus, folder, dice)
    progress(f"real_text: {kind}: answers generated and resumed")
    return found


def train_tokenizer(lines: list[str], template: str | None) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with special tokens of its own."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=SPECIAL[3:],
        chat_template=template,
        padding_side="left",
    )


def check_estimate(corpus: Corpus, folder: Path, dice: random.Random) -> dict[str, Any]:
    """An unbroken estimate against one that was killed in the middle and resumed."""

    def words(out: Path) -> list[str | Path | int]:
        return [
            *("estimate", folder / "aligned", folder / "reference", "--out", out),
            *("--pool", corpus.pool, "--prompts", RANDOM_PROMPTS, "--steps", STEPS),
            *("--prompts", f"{corpus.harmless}:kind=harmless"),
            *("--prompts", f"{corpus.harmful}:kind=harmful", "--json"),
        ]

    begin = time.perf_counter()
    run(*words(folder / "bias"))
    seconds = time.perf_counter() - begin
    broken = folder / "broken-bias"
    waited_for = broken / f"partial-{dice.choice(['reference', 'aligned'])}.safetensors"
    delay = dice.uniform(0, 0.2)
    killed = run_and_kill(words(broken), waited_for.exists, delay)
    done = {p.stem: GroupSums.load(p).prompts for p in sorted(broken.glob("partial-*"))}
    run(*words(broken), "--resume")
    whole, resumed = (SafetyBias.from_pretrained(path) for path in (folder / "bias", broken))
    deviation = (whole.values - resumed.values).abs().max() / whole.values.abs().max()
    return {
        "seconds": round(seconds, 1),
        "killed": killed,
        "prompts_done_at_kill": done,
        "deviation": float(deviation),
        "verdict": whole.info.diagnosis["verdict"],
    }


def check_generate(corpus: Corpus, folder: Path, dice: random.Random) -> dict[str, Any]:
    """An unbroken run of generate against one that was killed and resumed again and again."""

    def words(out: Path) -> list[str | Path | int]:
        return [
            *("generate", folder / "aligned", "--bias", folder / "bias", "--strength", 1),
            *("--prompts", corpus.prompts, "--out", out, "--json"),
            *("--max-new-tokens", NEW_TOKENS, "--batch-size", BATCH),
        ]

    begin = time.perf_counter()
    run(*words(folder / "answers"))
    seconds = time.perf_counter() - begin
    answers = folder / "broken-answers" / "responses.jsonl"
    expected = [json.loads(line)["id"] for line in corpus.prompts.read_text().splitlines()]
    killed, after_kills = 0, []
    for part in range(KILLS):  # at least a chunk later than the last one, and not at the very end
        share = len(expected) // (KILLS + 1)
        enough = part * share + dice.randrange(1, share)
        ready = partial(has_lines, answers, max(enough, whole_lines(answers) + 1))
        killed += run_and_kill([*words(answers.parent), "--resume"], ready, dice.uniform(0, 0.05))
        after_kills.append(whole_lines(answers))
    run(*words(answers.parent), "--resume")
    lines = answers.read_bytes().split(b"\n")
    records = [json.loads(line) for line in lines[:-1]]
    ids = [record["id"] for record in records]
    unbroken = (folder / "answers" / "responses.jsonl").read_text(encoding="utf-8")
    wanted = {record["id"]: record for record in map(json.loads, unbroken.split("\n")[:-1])}
    return {
        "seconds": round(seconds, 1),
        "killed": killed,
        "records_after_kills": after_kills,
        "records": len(records),
        "lost": len(set(expected) - set(ids)),
        "doubled": len(ids) - len(set(ids)),
        "torn": int(lines[-1] != b""),
        "differing": sum(record != wanted.get(record["id"]) for record in records),
    }


if __name__ == "__main__":
    main()
