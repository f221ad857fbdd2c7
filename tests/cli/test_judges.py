import json
from dataclasses import asdict
from importlib import import_module

import tsdi as library
from tests.cli.conftest import tsdi
from tsdi.judging.registry import JUDGES


def test_every_judge_is_listed_in_80_columns():
    result = tsdi("judges")
    assert result.exit_code == 0, result.output
    assert all(name in result.stdout for name in JUDGES)
    assert max(map(len, result.stdout.splitlines())) <= 80
    shown = json.loads(tsdi("judges", "--json").stdout)
    assert shown == {name: asdict(known) for name, known in library.judges().items()}
    assert list(shown) == list(JUDGES)


def test_every_judge_has_an_opener():
    for known in JUDGES.values():
        module, _, function = known.opener.partition(":")
        assert callable(getattr(import_module(module), function))
