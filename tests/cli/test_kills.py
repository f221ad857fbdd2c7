"""A run that is killed, wherever it is, goes on to the same end as one that is not."""

import json
import random
import signal
import subprocess
import sys

import pytest

from tests.cli.conftest import estimate

# For each line of standard input it forks a process that runs that command and kills itself before
# the n-th change of any file: opened to be written, put on the disk, renamed or removed. Its answer
# is how the process ended, and how many changes it came to. One process for all, as importing torch
# takes ten times as long as any of these commands.
PROGRAM = """
import json, os, signal, sys
from tsdi.bias import accumulate
from tsdi.cli.main import run
import tsdi.runs.estimate, tsdi.evaluation.evaluate, tsdi.engines.transformers

accumulate.BATCHES_PER_CHECKPOINT = 1
WRITES = os.O_WRONLY | os.O_RDWR


def work(command, killed_at, told):
    count = 0

    def change():
        nonlocal count
        count += 1
        os.pwrite(told, b"%9d" % count, 0)
        if count == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def seen(event, given):
        if event == "open" and isinstance(given[0], str) and given[2] & WRITES:
            if given[0] != os.devnull:
                change()
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            change()

    fsync = os.fsync
    os.fsync = lambda file: (change(), fsync(file))
    sys.addaudithook(seen)
    sys.argv = ["tsdi", *command]
    run()


for line in sys.stdin:
    command, killed_at = json.loads(line)
    told = os.memfd_create("count")
    child = os.fork()
    if not child:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            work(command, killed_at, told)
        except SystemExit as end:
            code = end.code or 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([status, int(os.pread(told, 9, 0) or 0)]), flush=True)
    os.close(told)
"""


@pytest.fixture(scope="module")
def run():
    """Runs a command, killed before its n-th change of a file; says how it ended, and where."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def ask(command, killed_at=0):
        process.stdin.write(json.dumps([list(map(str, command)), killed_at]) + "\n")
        process.stdin.flush()
        return tuple(json.loads(process.stdout.readline()))

    with process:
        yield ask
        process.stdin.close()


def estimated(models, tmp_path):
    small = ["--n", 64, "--no-diagnosis"]
    return lambda out: estimate(models, out, *small)


def evaluated(models, tmp_path):
    rows = [{"prompt": f"mill {n}", "kind": "harmless" if n % 2 else "harmful"} for n in range(5)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["evaluate", models / "aligned", "--prompts", tmp_path / "prompts.jsonl"]
    command += ["--batch-size", 2, "--max-new-tokens", 4]
    return lambda out: [*command, "--out", out]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.skipif(sys.platform != "linux", reason="forks after torch was imported")
@pytest.mark.parametrize("made", [estimated, evaluated])
def test_a_run_killed_at_any_change_of_a_file_goes_on_to_the_same_end(models, run, tmp_path, made):
    command = made(models, tmp_path)
    ended, changes = run(command(tmp_path / "whole"))
    assert ended == 0
    assert changes > 20
    out, kills, chance = tmp_path / "killed", [], random.Random(18)
    while ended != 0 or not kills:
        killed_at = chance.randint(1, changes // 2) if len(kills) < 5 else 0
        ended, came_to = run([*command(out), *["--resume"] * bool(kills)], killed_at)
        kills.append(came_to)
        assert ended in (0, -signal.SIGKILL), kills
    assert len(kills) > 2
    whole = contents(tmp_path / "whole")
    assert contents(out) == whole, kills
