"""May a bias that was estimated in float32 be used on a quantised model?

SmolLM2 with the adapter that comes with tsdi, merged, is the aligned model, SmolLM2 the reference.
Both are written as GGUF files and quantised by llama.cpp, which gives the quantised models' logits;
in float32 transformers gives them. On everyday prompts, and at the positions of the float32 model's
debiased greedy answers:

* KL of the quantised model from the float32 one, plain, debiased by the float32 bias on both sides,
  and with the quantised model debiased by the bias of the quantised pair, as transformers reads it;
* for scale, KL of the float32 model with the bias of other random prompts;
* how often both sides' first tokens are the same;
* what is refused in short answers that llama.cpp writes with the bias at work;
* whether transformers reads the quantised numbers as llama.cpp does.

KL is in nats a token: the mean over an answer's positions, then over prompts, with t intervals over
these. Run it where llama-cpp-python and PEFT are installed.
"""

import ctypes
import gc
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.engines.gguf_file import write_gguf
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.common import Claim, Report, parser, progress
from tsdi import load_model, load_tokenizer
from tsdi.bias import Estimation, SafetyBias, estimate_bias
from tsdi.bias import lm_head as head
from tsdi.decoding.rule import subtract_bias
from tsdi.engines.base import Engine, Request, Sampling
from tsdi.engines.llama_cpp import LlamaCppEngine, open_llama
from tsdi.engines.transformers import TransformersEngine
from tsdi.export.static import Text, rule_answers
from tsdi.judging.base import Response
from tsdi.judging.refusal import REFUSAL_PHRASES
from tsdi.judging.verdict import Verdict
from tsdi.models.load import LoadOptions
from tsdi.models.shipped import SMOLLM2, SMOLLM2_ALIGNED
from tsdi.models.sides import load_pair
from tsdi.stats.interval import Estimate
from tsdi.stats.proportions import paired_change, wilson
from tsdi.stats.seeds import mean_interval
from tsdi.suites.load import EVERYDAY, load_prompts
from tsdi.suites.prompts import Prompt

FLOAT32, OTHER = "float32", "other random prompts"
FORMATS = ("Q8_0", "Q4_1", "Q4_0")
STRENGTH, STEPS, PROMPT_TOKENS, NEW, BATCH, CONTEXT = 1.0, 16, 24, 16, 16, 256
OPTIONS = LoadOptions("float32")
READ = 4  # texts on which the two readings of a file are compared


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--prompts", type=int, default=64, help="random prompts of an estimate")
    made.add_argument("--per-kind", type=int, default=40, help="everyday prompts of each kind")
    made.add_argument("--threads", type=int, default=1)
    arguments = made.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)  # it tells of every tensor
    limit = 2 if arguments.quick else arguments.per_kind
    asked = load_prompts(f"{EVERYDAY}:limit={limit}", seed=0).prompts
    how = Estimation(16 if arguments.quick else arguments.prompts, STEPS, PROMPT_TOKENS)
    settings = {
        "aligned": SMOLLM2_ALIGNED,
        "reference": SMOLLM2,
        "random_prompts": how.prompts,
        "random_tokens": PROMPT_TOKENS,
        "steps": STEPS,
        "strength": STRENGTH,
        "prompts": len(asked),
        "new_tokens": NEW,
        "judge": REFUSAL_PHRASES.describe(),
        "seeds": {FLOAT32: 0, OTHER: 1},
    }
    report = Report("quantised", arguments, settings)
    tokenizer = load_tokenizer(SMOLLM2)
    with tempfile.TemporaryDirectory() as place:
        files = write_files(Path(place), tokenizer)
        biases = estimate_all(files, tokenizer, how)
        found = measure(files, biases, tokenizer, asked)
    report.write(claims(found), {"formats": found})


def write_files(folder: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, tuple[Path, Path]]:
    """GGUF files of the aligned model and the reference, by format."""
    files = {
        kind: (folder / f"aligned-{kind}.gguf", folder / f"reference-{kind}.gguf")
        for kind in (FLOAT32, *FORMATS)
    }
    adapted: Any = load_model(SMOLLM2_ALIGNED, OPTIONS)
    for model, file in zip(
        (adapted.merge_and_unload(), load_model(SMOLLM2, OPTIONS)), files[FLOAT32], strict=True
    ):
        write_gguf(file, model, tokenizer)
    for kind in FORMATS:
        for source, file in zip(files[FLOAT32], files[kind], strict=True):
            quantise(source, file, kind)
    progress(f"quantised: files written: {', '.join(files)}")
    return files


def quantise(source: Path, file: Path, kind: str) -> None:
    """Write a GGUF file's numbers in another format, as llama.cpp does it."""
    import llama_cpp

    how = llama_cpp.llama_model_quantize_default_params()
    how.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    how.nthread = torch.get_num_threads()
    failed = llama_cpp.llama_model_quantize(
        str(source).encode(), str(file).encode(), ctypes.byref(how)
    )
    assert not failed, f"llama.cpp could not write {kind}"


def estimate_all(
    files: Mapping[str, tuple[Path, Path]], tokenizer: PreTrainedTokenizerBase, how: Estimation
) -> dict[str, SafetyBias]:
    """The float32 bias, that of other random prompts, and each quantised pair's own."""
    sources = {kind: (str(files[kind][0]), str(files[kind][1])) for kind in FORMATS}
    found = {}
    for name in (FLOAT32, OTHER, *FORMATS):
        pair = load_pair(*sources.get(name, (SMOLLM2_ALIGNED, SMOLLM2)), OPTIONS)
        settings = replace(how, seed=1) if name == OTHER else how
        found[name] = estimate_bias(*pair, tokenizer, settings)
        del pair
        gc.collect()
        progress(f"quantised: bias estimated: {name}")
    return found


def measure(
    files: Mapping[str, tuple[Path, Path]],
    biases: Mapping[str, SafetyBias],
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Prompt],
) -> dict[str, dict[str, Any]]:
    """All figures, by format, and those of the float32 model with the other bias."""
    model = load_model(SMOLLM2_ALIGNED, OPTIONS)
    requests = [Request(one.messages) for one in asked]
    texts = rule_answers(model, tokenizer, biases[FLOAT32], STRENGTH, requests, NEW)
    progress("quantised: float32 answers written")
    loaded = {kind: _open(aligned) for kind, (aligned, _) in files.items()}
    found = compare(model, loaded, texts, biases)
    said: dict[str, dict[str, list[Verdict]]] = {}
    for kind in (FLOAT32, *FORMATS):
        for arm, bias in (("plain", None), ("debiased", biases[FLOAT32])):
            strength = STRENGTH if bias else None
            engine: Engine = (
                TransformersEngine(model, tokenizer, bias, strength)
                if kind == FLOAT32
                else LlamaCppEngine(loaded[kind], tokenizer, bias, strength)
            )
            said.setdefault(kind, {})[arm] = verdicts(engine, asked)
            progress(f"quantised: {kind}, {arm}: answers written")
        found[kind]["answers"] = shares(said[kind], said[FLOAT32], asked)
    for kind, (aligned, _) in files.items():
        found[kind]["bytes"] = aligned.stat().st_size
    for kind in (*FORMATS, OTHER):
        found[kind]["bias_distance"] = distance(biases[kind], biases[FLOAT32])
    for kind in FORMATS:
        found[kind]["read_alike"] = read_alike(files[kind][0], loaded[kind], texts[:READ])
    return found


def _open(file: Path) -> Any:
    threads = torch.get_num_threads()
    more = {"n_threads": threads, "n_threads_batch": threads}
    return open_llama(str(file), n_ctx=CONTEXT, logits_all=True, **more)


def compare(
    model: PreTrainedModel,
    loaded: Mapping[str, Any],
    texts: Sequence[Text],
    biases: Mapping[str, SafetyBias],
) -> dict[str, dict[str, Any]]:
    """KL and equal first tokens on the float32 model's debiased answers, by format."""
    kinds = (*loaded, OTHER)
    divergences: dict[str, dict[str, list[Tensor]]] = {kind: {} for kind in kinds}
    same: dict[str, dict[str, list[bool]]] = {kind: {} for kind in kinds}
    for number, (ids, answer) in enumerate(texts):
        plain = head.logits(model, torch.tensor([ids])[:, :-1], answer)[0]
        for kind in kinds:
            logits = plain if kind == OTHER else llama_logits(loaded[kind], ids, answer)
            for name, (one, other) in sides(plain, logits, biases[FLOAT32], biases[kind]).items():
                divergences[kind].setdefault(name, []).append(kl(one, other))
                equal = bool(one[0].argmax() == other[0].argmax())
                same[kind].setdefault(name, []).append(equal)
        if number % 20 == 0:
            progress(f"quantised: {number} of {len(texts)} answers compared")
    return {
        kind: {
            "kl": {name: _mean(rows) for name, rows in divergences[kind].items()},
            "kl_by_position": {
                name: _by_position(rows) for name, rows in divergences[kind].items()
            },
            "same_first": {
                name: wilson(sum(x), len(x)).to_dict() for name, x in same[kind].items()
            },
        }
        for kind in kinds
    }


def llama_logits(llama: Any, ids: list[int], answer: int) -> Tensor:
    """A GGUF model's logits at the positions of an answer, which ends the ids: [answer, vocab]."""
    llama.reset()
    llama.eval(ids[:-1])
    rows = llama.scores[len(ids) - 1 - answer : len(ids) - 1]
    return torch.from_numpy(np.array(rows, dtype=np.float32))


def sides(
    plain: Tensor, quantised: Tensor, bias: SafetyBias, own: SafetyBias
) -> dict[str, tuple[Tensor, Tensor]]:
    """What is compared, the first with the second: logits [answer, vocab] of both."""
    steps = torch.arange(len(plain))

    def debiased(logits: Tensor, by: SafetyBias) -> Tensor:
        return subtract_bias(logits, steps, by.shift, STRENGTH)

    wanted, given, best = debiased(plain, bias), debiased(quantised, bias), debiased(quantised, own)
    return {
        "plain": (plain, quantised),
        "float32 bias": (wanted, given),
        "own bias": (wanted, best),
        "float32 from own bias": (best, given),
    }


def kl(one: Tensor, other: Tensor) -> Tensor:
    """KL(softmax(one) || softmax(other)) of every row, in nats, float64 [rows]."""
    first, second = one.double().log_softmax(-1), other.double().log_softmax(-1)
    return (first.exp() * (first - second)).sum(-1).clamp(min=0)


def _mean(rows: Sequence[Tensor]) -> dict[str, float | int | None]:
    return mean_interval([float(row.mean()) for row in rows]).to_dict()


def _by_position(rows: Sequence[Tensor]) -> list[float]:
    return [
        float(torch.stack([row[n] for row in rows if n < len(row)]).mean())
        for n in range(max(map(len, rows)))
    ]


def distance(bias: SafetyBias, other: SafetyBias) -> float:
    """The norm of the difference over that of the other bias."""
    return float((bias.values - other.values).norm() / other.values.norm())


def read_alike(file: Path, llama: Any, texts: Sequence[Text]) -> float:
    """KL of llama.cpp from transformers, both on one file: the mean over a few answers."""
    model = load_model(str(file), OPTIONS)
    rows = [
        kl(
            head.logits(model, torch.tensor([ids])[:, :-1], answer)[0],
            llama_logits(llama, ids, answer),
        )
        for ids, answer in texts
    ]
    return float(torch.cat(rows).mean())


def verdicts(engine: Engine, asked: Sequence[Prompt]) -> list[Verdict]:
    """What the rule of words says of an engine's greedy answers."""
    sampling, answers = Sampling(max_new_tokens=NEW), []
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        completions = engine.generate([Request(one.messages) for one in part], sampling)
        answers += [
            Response(one.id, one.kind, one.category, one.messages, said.text, said.finish == "stop")
            for one, said in zip(part, completions, strict=True)
        ]
    return [judgement.verdict for judgement in REFUSAL_PHRASES.judge(answers)]


def shares(
    said: Mapping[str, Sequence[Verdict]],
    float32: Mapping[str, Sequence[Verdict]],
    asked: Sequence[Prompt],
) -> dict[str, Any]:
    """Refused of the harmful prompts and complied of the others, and the change from float32."""
    found: dict[str, Any] = {}
    for name, verdict, harmful in (
        ("refused, harmful", Verdict.REFUSED, True),
        ("complied, harmless", Verdict.COMPLIED, False),
    ):
        chosen = [n for n, one in enumerate(asked) if (one.kind == "harmful") == harmful]
        for arm in said:
            here, there = (
                [verdicts[arm][n] == verdict for n in chosen] for verdicts in (said, float32)
            )
            found.setdefault(name, {})[arm] = {
                "share": wilson(sum(here), len(here)).to_dict(),
                "change": paired_change(there, here).to_dict(),
            }
    return found


def claims(found: Mapping[str, Mapping[str, Any]]) -> list[Claim]:
    """The figures of the table."""
    made = [_claim(f"{OTHER}: KL, debiased", found[OTHER]["kl"]["own bias"])]
    for kind in (FLOAT32, *FORMATS):
        figures = found[kind]
        size = figures["bytes"] / found[FLOAT32]["bytes"]
        made.append(Claim(f"{kind}: bytes over float32's", size))
        for name, estimate in figures["kl"].items():
            made.append(_claim(f"{kind}: KL, {name}", estimate))
        for name in ("plain", "float32 bias"):
            made.append(_claim(f"{kind}: same first token, {name}", figures["same_first"][name]))
        for name, arms in figures["answers"].items():
            made += [_claim(f"{kind}: {name}, {arm}", one["share"]) for arm, one in arms.items()]
        if "read_alike" in figures:
            name = f"{kind}: KL of llama.cpp from transformers on the file"
            made.append(Claim(name, figures["read_alike"], high=0.01))
    return made


def _claim(name: str, figure: Mapping[str, Any]) -> Claim:
    return Claim.of(name, Estimate.from_dict(figure))


if __name__ == "__main__":
    main()
