"""Work on a Ray cluster whose workers are killed, and runs of 100,000 records.

Kills: two workers on two CPUs sum an estimate of tiny random models, and answer and judge prompts,
while one of them is killed with SIGKILL at random moments. The sums, answers and verdicts are then
compared with those of one process.

Records: the tests' engine, which has no model, answers in shards; these are gathered, judged anew
and compared. Each of the three is a process of its own, whose peak memory is read.
"""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import tiny
from tests.fake_engine import FakeEngine

import tsdi
from benchmarks.common import Claim, Report, parser, progress
from tsdi.bias.accumulate import GroupSums
from tsdi.bias.mean_logits import partial_files
from tsdi.cluster import Cluster
from tsdi.engines.base import Sampling
from tsdi.evaluation.evaluate import Judging
from tsdi.evaluation.gather import gather
from tsdi.judging.registry import load_judge
from tsdi.runs.generate import generate_responses
from tsdi.runs.records import Record, read_records
from tsdi.runs.shard import Shard
from tsdi.suites.prompts import Prompt

SHARDS = 4
TWO = Cluster("local", 2)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--kills", type=int, default=20, help="of each kind of work")
    made.add_argument("--records", type=int, default=100_000)
    made.add_argument("--part", nargs=2, help=argparse.SUPPRESS)  # in a child process
    arguments = made.parse_args()
    if arguments.part:
        print(json.dumps(part(arguments.part[0], Path(arguments.part[1]))))
        return
    del arguments.part
    kills, count = (2, 2000) if arguments.quick else (arguments.kills, arguments.records)
    report = Report("cluster", arguments, {"kills": kills, "records": count, "shards": SHARDS})
    with tempfile.TemporaryDirectory() as folder:
        records = many_records(Path(folder), count)
        killed = killed_workers(Path(folder), kills)
    claims = [
        Claim("workers killed, estimate", killed["estimate"]["kills"], low=kills),
        Claim("estimate: random prompts lost or counted twice", killed["estimate"]["wrong"], 0, 0),
        Claim(
            "estimate: sums - one process's, share of scale", killed["estimate"]["off"], 0, 1e-12
        ),
        Claim("workers killed, evaluate", killed["evaluate"]["kills"], low=kills),
        Claim("evaluate: answers and verdicts lost or doubled", killed["evaluate"]["wrong"], 0, 0),
        Claim("evaluate: records that differ from one process's", killed["evaluate"]["off"], 0, 0),
        *(
            Claim(f"{count:,} records, {name}: {what}", found[key], low, high)
            for name, found in records.items()
            for what, key, low, high in (
                ("records a second", "rate", None, None),
                ("peak memory, kilobytes a record", "memory", None, 32),
            )
        ),
    ]
    report.write(claims, {"killed": killed, "records": records})


def many_records(folder: Path, count: int) -> dict[str, Any]:
    """Records a second, and memory, of gathering, judging and comparing a run of shards."""
    prompts = [
        Prompt(
            f"p{n}", ({"role": "user", "content": f"how do i {n}"},), f"O{n % 16 + 1}", kind=kind
        )
        for n, kind in zip(range(count), ("harmful", "harmless") * count, strict=False)
    ]
    for number in range(1, SHARDS + 1):
        progress(f"shard {number}")
        shard = Shard(number, SHARDS)
        start, stop = shard.part(count, 50)
        described = {"shard": {**shard.describe(), "prompts": {"count": count, "sha256": ""}}}
        generate_responses(
            FakeEngine(),
            prompts[start:stop],
            folder / f"s{number}",
            Sampling(2),
            50,
            False,
            described,
        )
    found = {}
    for name in ("gather", "judge", "compare"):
        progress(name)
        command = [sys.executable, "-m", "benchmarks.cluster", "--part", name, str(folder)]
        line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        measured = json.loads(line.splitlines()[-1])
        found[name] = {
            "rate": count / measured["seconds"],
            "memory": (measured["peak"] - measured["before"]) / count,
            **measured,
        }
    return found


def part(name: str, folder: Path) -> dict[str, float]:
    """Do one part in this process; returns its seconds and the peak of its memory."""
    works: dict[str, Callable[[], object]] = {
        "gather": lambda: gather([folder / f"s{n}" for n in range(1, SHARDS + 1)], folder / "all"),
        "judge": lambda: [
            tsdi.evaluate(folder / "all", judging=Judging(judge))
            for judge in ("refusal-phrases", "keyword-list")
        ],
        "compare": lambda: tsdi.compare(folder / "all", folder / "all", judge="keyword-list"),
    }
    tsdi.SafetyBias, load_judge("keyword-list")  # what is loaded whatever the number of records
    before, start = peak(), time.perf_counter()
    works[name]()
    return {"seconds": time.perf_counter() - start, "before": before, "peak": peak()}


def peak() -> int:
    """The most memory that this process has had, in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def killed_workers(folder: Path, kills: int) -> dict[str, dict[str, float]]:
    """What an estimate and a run come to while workers are killed, beside one process's."""
    for name, seed in (("aligned", 0), ("reference", 1)):
        tiny.model("llama", seed).save_pretrained(folder / name)
        tiny.tokenizer().save_pretrained(folder / name)
    pair = folder / "aligned", folder / "reference"
    settings = tsdi.Estimation(prompts=4096, steps=3, prompt_tokens=8, pool="tokenizer")
    file = folder / "prompts.jsonl"
    rows = [{"prompt": f"a b {n}", "kind": "harmful"} for n in range(1024)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def estimate(out: Path, cluster: Cluster | None) -> None:
        loading = tsdi.Loading(batch_size=4, cluster=cluster)
        tsdi.estimate_shard(*pair, out, "1/1", settings, loading=loading)

    def evaluate(out: Path, cluster: Cluster | None) -> None:
        how = tsdi.Answering(None, tsdi.Sampling(4), 2, cluster=cluster)
        judging = Judging("refusal-phrases", cluster=cluster)
        tsdi.evaluate(pair[0], file, out, answering=how, judging=judging)

    with TWO.connected():
        return {
            "estimate": until_killed(folder / "estimate", kills, estimate, sums_apart),
            "evaluate": until_killed(folder / "evaluate", kills, evaluate, records_apart),
        }


def until_killed(
    folder: Path,
    kills: int,
    work: Callable[[Path, Cluster | None], None],
    apart: Callable[[Path, Path], tuple[int, float]],
) -> dict[str, float]:
    """Do a work again and again until so many workers were killed; how its results are apart."""
    folder.mkdir()
    work(folder / "alone", None)
    found: dict[str, float] = {"kills": 0, "times": 0, "wrong": 0, "off": 0.0}
    while found["kills"] < kills:
        out = folder / str(found["times"])
        with killing(kills - int(found["kills"]), seed=int(found["times"])) as count:
            work(out, TWO)
        wrong, off = apart(folder / "alone", out)
        found = {
            "kills": found["kills"] + count[0],
            "times": found["times"] + 1,
            "wrong": found["wrong"] + wrong,
            "off": max(found["off"], off),
        }
        progress(f"{folder.name}: {found}")
    return found


def sums_apart(one_process: Path, killed: Path) -> tuple[int, float]:
    """Prompts that the killed workers' sums lack or have twice, and how far they are off."""
    wrong, off = 0, 0.0
    for one, two in zip(partial_files(one_process), partial_files(killed), strict=True):
        alone, spread = GroupSums.load(one), GroupSums.load(two)
        wrong += int((alone.counts - spread.counts).abs().sum()) + (alone.ranges != spread.ranges)
        scale = float(alone.sums.abs().max())
        off = max(off, float((alone.sums - spread.sums).abs().max()) / scale)
    return wrong, off


def records_apart(one_process: Path, killed: Path) -> tuple[int, float]:
    """Records that the killed workers' run lacks or has twice, and those that it has otherwise."""
    wrong = off = 0
    for name in ("responses.jsonl", "verdicts.jsonl"):
        lines = (killed / name).read_text().splitlines()
        alone, spread = by_id(one_process / name), by_id(killed / name)
        times = Counter(json.loads(line)["id"] for line in lines)
        wrong += sum(times[key] != 1 for key in alone) + len(times.keys() - alone.keys())
        off += sum(spread.get(key) != record for key, record in alone.items())
    return wrong, float(off)


def by_id(file: Path) -> dict[str, Record]:
    return {record["id"]: record for record in read_records(file)}


@contextmanager
def killing(kills: int, seed: int) -> Iterator[list[int]]:
    """Kill one of this process's workers after another, at random moments, while a block lasts."""
    done, over, drawn = [0], threading.Event(), random.Random(seed)

    def kill() -> None:
        while done[0] < kills and not over.wait(drawn.uniform(0.2, 2.0)):
            if at_work := workers():
                os.kill(drawn.choice(at_work), signal.SIGKILL)
                done[0] += 1

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def workers() -> list[int]:
    """This process's own workers that have something to do."""
    return [
        pid
        for pid in map(int, filter(str.isdigit, (p.name for p in Path("/proc").iterdir())))
        if is_worker(pid)
    ]


def is_worker(pid: int) -> bool:
    """Whether a process is at work for this one: a child of its Ray's."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
        parent = title.startswith(b"ray::_Worker.do") and parent_of(parent_of(pid))
    except (OSError, IndexError):  # it has just ended
        return False
    return parent == os.getpid()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


if __name__ == "__main__":
    main()
