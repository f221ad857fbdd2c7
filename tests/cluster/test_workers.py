"""Work on a local Ray cluster: the same files as without, also where workers die."""

import os

import pytest

import tsdi
from tests import tiny
from tests.cluster.jobs import failing, held, noted, written
from tests.evaluation.test_gather import contents
from tests.tiny import refused
from tsdi.cluster import Cluster
from tsdi.errors import UsageError
from tsdi.evaluation.evaluate import Judging
from tsdi.study.grid import _run

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

SETTINGS = tsdi.Estimation(prompts=32, steps=3, prompt_tokens=6, pool="tokenizer", groups=4)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    for name, seed in (("aligned", 0), ("reference", 1)):
        tiny.model("llama", seed).save_pretrained(folder / name)
        tiny.tokenizer().save_pretrained(folder / name)
    return folder / "aligned", folder / "reference"


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.jsonl"
    kinds = ["harmful", "harmless"] * 6
    file.write_text(
        "".join(f'{{"prompt": "a b {n}", "kind": "{kind}"}}\n' for n, kind in enumerate(kinds))
    )
    return file


def test_results_come_in_order_and_the_work_of_the_dead_is_done_again(two_cpus, tmp_path):
    with two_cpus.open(held) as workers:
        jobs = [(number, tmp_path, number == 3) for number in range(8)]
        found = list(workers.map(noted, jobs))
        assert [number for number, _ in found] == list(range(8))
        assert all(pid != os.getpid() for _, pid in found)
        begun = [(tmp_path / str(n)).read_text().count("begun") for n in range(8)]
        assert begun == [2 if n == 3 else 1 for n in range(8)]
        with pytest.raises(UsageError, match=r"Number 0 cannot be\. Take another\.") as caught:
            list(workers.map(failing, range(3)))
        assert caught.value.remedy == "Take another."
        assert list(workers.map(noted, [])) == []
        assert [n for n, _ in workers.map(noted, jobs[:2])] == [0, 1]  # goes on after an error


def test_more_workers_than_there_is_room_for_are_refused(two_cpus):
    refused(
        lambda: Cluster("local", 3).open(held).__enter__(),
        "room for 2 workers, not 3", "fewer --workers", kind=UsageError,
    )  # fmt: skip
    refused(
        lambda: Cluster("local", 1, 1).open(held).__enter__(),
        "room for 0 workers of 1 GPUs", kind=UsageError,
    )  # fmt: skip


def test_a_study_spreads_its_jobs_over_machines_that_see_its_folder(two_cpus, tmp_path):
    told, one = [], Cluster("local", 1)
    jobs = [(tmp_path, f"job{n}") for n in range(3)]
    _run(written, jobs, tmp_path, one, told.append)
    assert (told[-1], {file.name for file in tmp_path.iterdir()}) == (3, {"job0", "job1", "job2"})
    assert str(os.getpid()) not in [file.read_text() for file in tmp_path.iterdir()]
    with pytest.raises(UsageError, match=r"does not see .* where all machines see them"):
        _run(written, jobs, tmp_path / "elsewhere", one, told.append)


def test_an_estimate_is_that_of_one_process_and_goes_on_without_ray(two_cpus, pair, tmp_path):
    alone, spread = tsdi.Loading(batch_size=4), tsdi.Loading(batch_size=4, cluster=two_cpus)
    whole = tsdi.estimate(*pair, tmp_path / "one", SETTINGS, diagnosis=None, loading=alone)
    parts = tsdi.estimate(*pair, tmp_path / "two", SETTINGS, diagnosis=None, loading=spread)
    assert (whole.values - parts.values).abs().max() <= 1e-6 * whole.values.abs().max()
    assert whole.info == parts.info
    early = tsdi.Estimation(**{**vars(SETTINGS), "target_error": 0.1})
    with pytest.raises(UsageError, match="cannot stop early"):
        tsdi.estimate(*pair, tmp_path / "early", early, loading=spread)


def test_answers_and_verdicts_are_those_of_one_process(two_cpus, pair, prompts, tmp_path):
    def run(out, cluster, resume=False):
        tsdi.evaluate(
            pair[0], prompts, tmp_path / out, resume=resume,
            answering=tsdi.Answering(None, tsdi.Sampling(6), 2, cluster=cluster),
            judging=Judging("refusal-phrases", cluster=cluster),
        )  # fmt: skip
        return contents(tmp_path / out)

    alone = run("alone", None)
    assert run("spread", two_cpus) == alone
    for name in ("responses.jsonl", "verdicts.jsonl"):  # as a kill leaves them
        file = tmp_path / "spread" / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (tmp_path / "spread" / "verdicts.jsonl").unlink()
    assert run("spread", None, resume=True) == alone
