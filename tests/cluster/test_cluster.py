"""Addresses and options of a cluster, without Ray."""

import importlib.util
import socket

import pytest

from tests.cli.conftest import tsdi
from tests.tiny import refused
from tsdi.cli.options import read_cluster
from tsdi.cluster import Cluster
from tsdi.errors import UsageError


@pytest.mark.parametrize("address", ["", "here", "host", "host:port", "http://host:1", "host:1/x"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match=r"no address .* HOST:PORT"):
        Cluster(address)


@pytest.mark.parametrize("more", [{"workers": 0}, {"workers": 1.5}, {"gpus": -1}, {"gpus": "1"}])
def test_numbers_that_make_no_sense_are_refused(more):
    with pytest.raises(UsageError):
        Cluster("local", **more)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (("1", None), None),
        (("4", 0.5), Cluster("local", 4, 0.5)),
        (("1@auto", None), Cluster("auto")),
        (("8@ray://head:6379", None), Cluster("ray://head:6379", 8)),
    ],
)
def test_one_option_says_how_many_and_where(given, found):
    assert read_cluster(*given) == found


def test_without_ray_the_install_line_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr("tsdi.cluster.cluster.find_spec", lambda _: None)
    refused(lambda: Cluster("local").open(list), "pip install 'tsdi[ray]'", kind=UsageError)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}"])
def test_an_address_where_nobody_answers_is_one_line(form):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = form.format(taken.getsockname()[1])
        refused(
            lambda: Cluster(address).open(list),
            f"Nobody answers at {address}", "ray start", kind=UsageError,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--workers", "two"], "--workers 'two' is no number of processes. Write it like 4,"),
        (["--workers", "0"], "--workers '0' is no number of processes."),
        (["--workers", "@host:1"], "--workers '@host:1' is no number of processes."),
        (["--worker-gpus", "1"], "--worker-gpus needs --workers."),
        (["--workers", "1@here"], "'here' is no address of a Ray cluster."),
        (["--workers", "2@"], "'' is no address of a Ray cluster."),
        (["--workers", "2@127.0.0.1:1"], "Nobody answers at 127.0.0.1:1:"),
    ],
)
def test_commands_say_so_in_one_line(tmp_path, options, problem):
    run = tmp_path / "run"
    run.mkdir()
    record = '{"id": "a", "kind": "harmful", "response": "no", "messages": '
    (run / "responses.jsonl").write_text(f'{record}[{{"role": "user", "content": "hi"}}]}}\n')
    result = tsdi("evaluate", run, *options)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert result.stderr.startswith(f"Error: {problem}")
