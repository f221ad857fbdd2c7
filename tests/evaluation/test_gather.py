"""Shards of runs and of estimates, joined: equal to a single run, or refused by name."""

import json
import shutil

import pytest
import torch

import tsdi
from tests import tiny
from tests.fake_engine import FakeEngine
from tests.tiny import refused
from tsdi.engines.base import Sampling
from tsdi.errors import MismatchError, RunExistsError, UsageError
from tsdi.evaluation.evaluate import Judging
from tsdi.evaluation.gather import gather

PROMPTS = [
    {"id": f"{kind}{n}", "kind": kind, "category": "O1", "prompt": f"how do i {kind} {n} ?"}
    for kind in ("harmful", "harmless")
    for n in range(9)
]
FILES = ["responses.jsonl", "run.json", "verdicts.jsonl", "judge.json", "metrics.json"]


@pytest.fixture(autouse=True)
def _fake(monkeypatch):
    """No model: the engine whose answers depend on the prompt alone."""
    opened = FakeEngine(context=200), {"model": "fake"}
    monkeypatch.setattr("tsdi.runs.generate.open_engine", lambda *_: opened)


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(prompt) + "\n" for prompt in PROMPTS))
    return file


def answering(shard=None, batch_size=4, seed=0):
    return tsdi.Answering(None, Sampling(8, 1.0, seed), batch_size, shard=shard)


def evaluated(prompts, out, shard=None, judge="refusal-phrases", **changes):
    how = answering(shard, **changes)
    tsdi.evaluate("fake", prompts, out, answering=how, judging=Judging(judge))
    return out


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture
def shards(tmp_path, prompts):
    return [evaluated(prompts, tmp_path / f"s{k}", f"{k}/3") for k in (1, 2, 3)]


def test_a_gathered_run_is_the_single_one_byte_for_byte(tmp_path, prompts, shards):
    whole = evaluated(prompts, tmp_path / "single")
    for run in (*shards, whole):  # a second judge has its own folder
        tsdi.evaluate(run, judging=Judging("keyword-list"))
    found = gather(reversed(shards), tmp_path / "all")
    assert contents(tmp_path / "all") == contents(whole)
    assert set(FILES) < contents(whole).keys()
    assert (found.shards, found.prompts) == (3, 18)
    assert found.judges == ("refusal-phrases", "keyword-list")
    tsdi.compare(whole, tmp_path / "all", judge="keyword-list")


def test_shards_that_are_not_judged_yet_are_joined_too(tmp_path, prompts):
    folders = []
    for k in (1, 2):
        folders.append(tmp_path / f"s{k}")
        tsdi.generate("fake", prompts, folders[-1], answering=answering(f"{k}/2"))
    tsdi.generate("fake", prompts, tmp_path / "single", answering=answering())
    assert gather(folders, tmp_path / "all").judges == ()
    assert contents(tmp_path / "all") == contents(tmp_path / "single")


def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path, prompts, shards):
    other = evaluated(prompts, tmp_path / "other", "2/3", seed=1)
    one, two, three = shards
    whole = evaluated(prompts, tmp_path / "single")
    judged = evaluated(prompts, tmp_path / "judged", "3/3", judge="keyword-list")
    for folders, kind, *said in (
        ([one, three], UsageError, "Shard 2/3 is missing"),
        ([one, two, two, three], UsageError, "both shard 2/3"),
        ([one, other, three], MismatchError, "settings.seed is 0 and 1"),
        ([one, two, whole], UsageError, "single is a whole run"),
        ([one, two, tmp_path / "none"], UsageError, "There is no folder", "none"),
        ([one, two, judged], MismatchError, "judge.name is", "refusal-phrases", "keyword-list"),
        ([], UsageError, "no shards"),
    ):
        refused(lambda: gather(folders, tmp_path / "all"), *said, kind=kind)  # noqa: B023
        assert not (tmp_path / "all").exists()
    refused(lambda: gather(shards, one), "is there already", kind=RunExistsError)


def test_unfinished_shards_are_named(tmp_path, shards):
    for name, said in (("responses", "holds 1 answers of"), ("verdicts", "lacks 3 of 4 verdicts")):
        torn = tmp_path / name
        shutil.copytree(shards[0], torn)
        lines = (torn / f"{name}.jsonl").read_bytes().splitlines(keepends=True)
        (torn / f"{name}.jsonl").write_bytes(lines[0])
        refused(
            lambda: gather([torn, *shards[1:]], tmp_path / "all"),  # noqa: B023
            torn.name, said, "--resume", kind=UsageError,
        )  # fmt: skip


def test_a_shard_goes_on_as_itself_alone(tmp_path, prompts, shards):
    how = answering("2/3")
    with pytest.raises(RunExistsError, match=r"provenance\.shard\.number was 1, is 2"):
        tsdi.generate("fake", prompts, shards[0], answering=how, resume=True)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    for name, seed in (("aligned", 0), ("reference", 1)):
        tiny.model("llama", seed).save_pretrained(folder / name)
        tiny.tokenizer().save_pretrained(folder / name)
    return folder / "aligned", folder / "reference"


class TestEstimates:
    SETTINGS = tsdi.Estimation(prompts=32, steps=3, prompt_tokens=6, pool="tokenizer", groups=4)

    def shard(self, pair, out, shard, seed=0):
        how = tsdi.Estimation(**{**vars(self.SETTINGS), "seed": seed})
        tsdi.estimate_shard(*pair, out, shard, how, loading=tsdi.Loading(batch_size=3))
        return out

    def test_the_bias_is_that_of_one_estimate(self, pair, tmp_path):
        folders = [self.shard(pair, tmp_path / f"s{k}", f"{k}/3") for k in (3, 1, 2)]
        found = gather(folders, tmp_path / "all")
        assert (found.what, found.shards, found.prompts) == ("estimate", 3, 32)
        whole, parts = (
            tsdi.estimate(*pair, tmp_path / out, self.SETTINGS, diagnosis=None, resume=True)
            for out in ("single", "all")
        )
        assert (whole.values - parts.values).abs().max() <= 1e-6 * whole.values.abs().max()
        torch.testing.assert_close(whole.standard_error, parts.standard_error, rtol=1e-4, atol=1e-7)
        assert contents(tmp_path / "all").keys() == contents(tmp_path / "single").keys()

    def test_what_does_not_fit_is_refused(self, pair, tmp_path):
        one = self.shard(pair, tmp_path / "s1", "1/2")
        other = self.shard(pair, tmp_path / "other", "2/2", seed=1)
        two = self.shard(pair, tmp_path / "s2", "2/2")
        gathered = tmp_path / "all"
        refused(lambda: gather([one, other], gathered), "seed is 0 and 1", kind=MismatchError)
        refused(lambda: gather([one], gathered), "Shard 2/2 is missing", kind=UsageError)
        (two / "partial-reference.safetensors").unlink()
        refused(
            lambda: gather([one, two], gathered),
            "s2, shard 2/2, is not finished", "reference", "nothing", kind=UsageError,
        )  # fmt: skip
        again = {"settings": self.SETTINGS, "resume": True}
        refused(
            lambda: tsdi.estimate_shard(*pair, one, "2/2", **again), "s1 is another shard",
            kind=RunExistsError,
        )  # fmt: skip
        tsdi.estimate_shard(*pair, two, "2/2", **again, loading=tsdi.Loading(batch_size=3))
        assert gather([one, two], gathered).prompts == 32

    def test_a_shard_is_no_whole_estimate(self, pair, tmp_path):
        two = self.shard(pair, tmp_path / "s2", "2/2")
        refused(
            lambda: tsdi.estimate(*pair, two, self.SETTINGS, diagnosis=None, resume=True),
            "has prompts 16 to 31", "tsdi gather",
        )  # fmt: skip
