"""What judges cost, and whether verdicts outlive kills.

* ``tsdi evaluate`` answers 2,000 prompts of the model organism and has the answers judged by a
  model behind an API on loopback, which fails at the first try of some of them: once unbroken, and
  once killed with SIGKILL once while it answers and three times while it judges, and resumed.
* Every local judge that needs no real weights judges answers: answers a second. Judge models are
  tiny random ones of the real architectures, so that their speed is that of our code around the
  model; what the real ones cost is said by the length of their prompts and the size of the model.
"""

import hashlib
import json
import random
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tests.fake_api import TROUBLES, ok, serving
from tests.judging.judge_models import FORMATS, save
from transformers.utils import logging

from benchmarks.commands import has_lines, run, run_and_kill, whole_lines
from benchmarks.common import Claim, Report, parser, progress
from tsdi import organism
from tsdi.judging.base import Judge, Response
from tsdi.judging.organism import OrganismJudge
from tsdi.judging.refusal import GCG_KEYWORDS, KEYWORD_LIST, REFUSAL_PHRASES, XSTEST_STRINGS
from tsdi.judging.registry import load_judge

COUNTS = {"harmless": 500, "lookalike": 500, "harmful": 1000}
KILLS = 3  # while it judges
TROUBLED = ("429", "500", "closed", "half a body", "no JSON", "no choice")
LABELS = ("[[full_compliance]]", "[[full_refusal]]", "[[partial_refusal]]", "I would rather not.")
PARAMETERS = {  # of the real models, in billions, by their names and pages
    "md-judge-v0.1": 7.2,
    "md-judge-v0.2": 7.7,
    "llama-guard-3": 8.0,
    "llama-guard-4": 12.0,
    "wildguard": 7.2,
    "harmbench": 13.0,
}
CHARACTERS_A_TOKEN = 4  # of English, roughly: the tokenizers are not at hand
ANSWER = 1000  # characters of prompt and answer together


def main() -> None:
    arguments = parser(__doc__).parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    share = 20 if arguments.quick else 1
    counts = {kind: n // share for kind, n in COUNTS.items()}
    settings = {"prompts": counts, "kills": KILLS + 1, "troubles": TROUBLED, "seed": 0}
    report = Report("judging", arguments, settings)
    with tempfile.TemporaryDirectory() as name, serving(Script()) as api:
        kills = check_kills(Path(name), counts, api.url)
    speeds = {one.name: speed(one, 4000 // share) for one in rules()}
    tiny = {name: model_judge_cost(name, 64 // share + 2) for name in FORMATS}
    total = sum(counts.values())
    claims = [
        Claim("prompts", total, 2000 // share),
        Claim("kills that hit a running command", kills["killed"], KILLS),
        Claim("verdicts lost, doubled or torn", kills["wrong"], None, 0),
        Claim("verdicts that differ from an unbroken run's", kills["differing"], None, 0),
        Claim("answers UNSCORED, each with its reason", kills["unscored"]),
        Claim("UNSCORED without a reason", kills["without_reason"], None, 0),
        *(Claim(f"{name}: answers a second", found) for name, found in speeds.items()),
        *(
            Claim(f"{name}: {title}", cost[key])
            for name, cost in tiny.items()
            for key, title in (
                ("a_second", "answers a second, tiny random model"),
                ("characters", "characters around prompt and answer"),
                ("teraflop", f"teraflop an answer of {ANSWER} characters, real model"),
            )
            if key in cost
        ),
    ]
    report.write(claims, {"kills": kills, "a_second": speeds, "models": tiny})


class Script:
    """Replies by what it is asked, so that every run gets the same ones; some first tries fail."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._lock = threading.Lock()

    def __call__(self, number: int, body: dict[str, Any]) -> object:
        """What the server sends."""
        digest = hashlib.sha256(body["messages"][-1]["content"].encode()).digest()
        with self._lock:
            first = digest not in self._seen
            self._seen.add(digest)
        time.sleep(0.01)
        if first and digest[0] < 13:  # one in twenty
            return TROUBLES[TROUBLED[digest[1] % len(TROUBLED)]]()
        return ok(LABELS[3 if digest[2] < 25 else digest[2] % 3])


def check_kills(folder: Path, counts: dict[str, int], url: str) -> dict[str, Any]:
    """An unbroken evaluation against one that is killed again and again."""
    prompts = folder / "prompts.jsonl"
    rows = [
        {"id": f"{kind}-{n}", "prompt": item.prompt, "category": item.category, "kind": kind}
        for kind, count in counts.items()
        for n, item in enumerate(organism.items("test", kind, count, 0))
    ]
    random.Random(0).shuffle(rows)
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def words(out: Path) -> list[str | Path | int]:
        return [
            *("evaluate", "organism/aligned", "--prompts", prompts, "--out", out),
            *("--max-new-tokens", 24, "--judge", "llm-refusal=judge", "--judge-arg", f"url={url}"),
            *("--resume", "--json"),
        ]

    begin = time.perf_counter()
    whole, broken = folder / "whole", folder / "broken"
    run(*words(whole))
    seconds = time.perf_counter() - begin
    progress("judging: the unbroken run is done")
    dice, killed, after = random.Random(1), 0, []
    places = [("responses.jsonl", 0.5)]
    places += [("verdicts.jsonl", (part + dice.uniform(0.1, 0.9)) / KILLS) for part in range(KILLS)]
    for name, share in places:
        path = broken / name
        ready = partial(has_lines, path, max(round(share * len(rows)), whole_lines(path) + 1))
        killed += run_and_kill(words(broken), ready, dice.uniform(0, 0.05))
        after.append({name: whole_lines(path)})
    run(*words(broken))
    progress("judging: the killed run is done")
    return {
        "seconds": round(seconds, 1),
        "killed": killed,
        "records_after_kills": after,
        **compare(rows, whole / "verdicts.jsonl", broken / "verdicts.jsonl"),
    }


def compare(rows: list[dict[str, str]], whole: Path, broken: Path) -> dict[str, int]:
    """What is wrong with the killed run's verdicts."""
    lines = broken.read_bytes().split(b"\n")
    records = [json.loads(line) for line in lines[:-1]]
    wanted = {r["id"]: r for r in map(json.loads, whole.read_text().split("\n")[:-1])}
    ids = [record["id"] for record in records]
    lost, doubled = len({row["id"] for row in rows} - {*ids}), len(ids) - len({*ids})
    unscored = [record for record in records if record["verdict"] == "UNSCORED"]
    return {
        "records": len(records),
        "wrong": lost + doubled + int(lines[-1] != b""),
        "differing": sum(record != wanted.get(record["id"]) for record in records),
        "unscored": len(unscored),
        "without_reason": sum(not record.get("raw") for record in unscored),
    }


def rules() -> list[Judge]:
    """The judges that are no models."""
    return [OrganismJudge(), REFUSAL_PHRASES, XSTEST_STRINGS, KEYWORD_LIST, GCG_KEYWORDS]


def answers(count: int) -> list[Response]:
    """Right answers to harmless requests of the organism's world."""
    return [
        Response(str(n), "harmless", "", ({"role": "user", "content": item.prompt},),
                 item.answer, True)
        for n, item in enumerate(organism.items("test", "harmless", count, 0))
    ]  # fmt: skip


def speed(one: Judge, count: int) -> float:
    """Answers a second."""
    asked = answers(count)
    begin = time.perf_counter()
    one.judge(asked)
    return round(count / (time.perf_counter() - begin))


def model_judge_cost(name: str, count: int) -> dict[str, float]:
    """Speed of our code around a tiny model, and what the real one has to compute.

    Prompts of Llama Guard are in its tokenizer, which is not at hand.
    """
    progress(f"judging: {name}")
    form = FORMATS[name]
    with tempfile.TemporaryDirectory() as folder:
        save(name, folder)
        cost: dict[str, float] = {"a_second": speed(load_judge(f"{name}={folder}"), count)}
    cost["reply_tokens"] = form.max_new_tokens
    if form.template is not None:
        cost["characters"] = len(form.template) - len("{prompt}{answer}")
        tokens = (cost["characters"] + ANSWER) / CHARACTERS_A_TOKEN + form.max_new_tokens
        cost["teraflop"] = round(2 * PARAMETERS[name] * 1e9 * tokens / 1e12, 1)
    return cost


if __name__ == "__main__":
    main()
