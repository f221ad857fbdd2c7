import json
from importlib import import_module

from tests.cli.conftest import tsdi
from tsdi.judging.registry import JUDGES


def test_every_judge_is_listed_in_80_columns():
    result = tsdi("judges")
    assert result.exit_code == 0, result.output
    assert all(name in result.stdout for name in JUDGES)
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert list(json.loads(tsdi("judges", "--json").stdout)) == list(JUDGES)


def test_every_judge_has_an_opener():
    for known in JUDGES.values():
        module, _, function = known.opener.partition(":")
        assert callable(getattr(import_module(module), function))
