"""Every command is a library function of its name, with the same options and the same defaults."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tsdi
from tsdi.arguments import Name
from tsdi.bias import LabelledIds
from tsdi.cli.main import COMMANDS, load
from tsdi.judging.registry import ARGUMENTS

ROOMS = {  # commands that are called like the part of the library that they stand in
    "audit": "audit.audit",
    "condition": "add_condition",  # `tsdi.condition` is the part that fits it
    "export": "export.export",
    "chat": "playground.open_side_by_side",
    "playground": "playground.playground",
    "serve": "serving.serve",
    "study": "study.study",
}
NAMES = {  # what a function or an option's dataclass calls otherwise
    "api_key": "key",  # of `Place`
    "engine": "name",  # of `EngineChoice`
    "engine_arg": "args",
    "floor": "floors",
    "worker_gpus": "gpus",  # of `Cluster`
    "template_arg": "template_args",
    ("estimate", "end_of_thinking"): "anchor",  # of `Estimation`
    ("estimate", "n"): "prompts",  # of `Estimation`
    ("estimate", "prompts"): "sources",  # of `DiagnosisPrompts`
    ("condition", "attack"): "attacks",  # of `Labels`
    ("tune", "attack"): "attacks",  # of `Search`
    ("debias", "attack"): "attacks",  # of `Debiasing`
    ("generate", "prompt"): "prompts",  # one prompt: `tsdi.answer`
    ("sample-size", "points"): "change",
}
SEVERAL = {  # options that say several things
    "workers": {"address", "workers"},  # of `Cluster`
    "judge_arg": {*ARGUMENTS, "name", "args"},  # of `JudgeOptions`; of its `EngineChoice`
}
COMMAND_LINE_ONLY = {  # what is done with the result
    "json": "the result's to_dict()",
    "dry_run": "`Server.lines`; without it `Server.run`",
    ("debias", "menu"): "asks on a terminal",
    ("audit", "examples"): "`Audited.errors`",
    ("serve", "engine_arg"): "`EngineChoice(args=...)` as the engine",
    ("audit", "show_harmful"): "hides texts on the screen",
    ("audit", "train"): "`tsdi.audit.train`",
    ("estimate", "diagnosis"): "`diagnosis=None` is --no-diagnosis",
    ("estimate", "order"): "settings of `FirstOrder` are --order 1",
    ("estimate", "labelled"): "of `FirstOrder` and `OneModel`",
    ("estimate", "shard"): "`tsdi.estimate_shard`",
    ("chat", "prompt"): "`SideBySide.answer`",
    ("compare", "gate"): "the exit code, by `Gated.opens`",
    ("compare", "card"): "`tsdi.evaluation.measured.keep_measured`",
    ("compare", "out"): "`tsdi.report.comparison.write_comparison`",
    ("label", "decide"): "`tsdi.decide`",
}
PYTHON_ONLY = {
    "batch_size": "of `estimate`, `reproduce` and `export`: halved if memory runs out",
    "max_new_tokens": "of `StaticForm`: enough tokens to compare",
    "one_at_a_time": "of `Loading`: memory decides",
    "limit": "of `StaticForm`: OpenAI's",
    "tokens": "of `Fitting`: what does is found out",
    "width": "of `Fitting`: `tune` searches for it",
    "target_error": "of `Estimation`: the number of prompts says it, too",
    "power": "80 %, as is usual, on the command line",
    "progress": "the console draws its bar with it",
    "keep_logits": "tensors, for tests of engines",
    "logits_of": "for judges' probabilities",
    "groups": "for tests of the standard error",
    "ngram": "for ablations, in studies",
    "model": "of `JudgeOptions`: NAME=MODEL says it",
    "vllm_flags": "what follows --",
    "trust_remote_code": "what a tuned or exported model must do without",
    "audit": "of `Judging`: `tune` refuses it",
    "ask": "of `label`: the console shows answers and reads keys",
    "address": "of `Cluster`: what has no --workers works alone",
    "workers": "likewise",
    "gpus": "likewise",
    "kind": "of runs and labels from elsewhere; prompts say it: FILE:kind=harmful",
    "columns": "of labels and pairs; FILE:label=said",
    "tokenizer": "of `EngineChoice`, in `JudgeOptions`: for GGUF files, which no judge has",
    "url": "of `EngineChoice`: no server gives the logits that `estimate` needs",
}
HINTS = {  # names that a module has for a type checker alone
    "LoadOptions": tsdi.LoadOptions,
    "LabelledIds": LabelledIds,
    "Name": Name,
}
DIFFERENT = {  # defaults, with the reason
    ("sample-size", "points"): (5, 0.05, "percent on the command line, a share in Python"),
    ("sample-size", "share"): (95, 0.95, "percent on the command line, a share in Python"),
}


FUNCTIONS = [name for name in COMMANDS if name != "list"]  # shows `judges` and `suites`


def function_of(command: str) -> Any:
    """The library function of a command."""
    found: Any = tsdi
    for part in ROOMS.get(command, command.replace("-", "_")).split("."):
        found = getattr(found, part)
    return found


def leaves(name: str, default: Any, kind: Any) -> Iterator[tuple[str, Any]]:
    """A parameter with its default; of options in a dataclass each, with its own default."""
    kinds = [one for one in (*typing.get_args(kind), kind) if dataclasses.is_dataclass(one)]
    if dataclasses.is_dataclass(default):
        kinds = [type(default)]
    if not kinds or str in typing.get_args(kind):  # by name, or what the name stands for
        yield name, default
        return
    for field in dataclasses.fields(kinds[0]):
        given = getattr(default, field.name, field.default)
        hint = typing.get_type_hints(kinds[0], HINTS)[field.name]
        yield from leaves(field.name, None if given is dataclasses.MISSING else given, hint)


def parameters(command: str) -> dict[str, list[Any]]:
    """Every parameter of a command's function with its defaults, options in dataclasses too."""
    function = function_of(command)
    kinds = typing.get_type_hints(function, {"Answering": tsdi.Answering})
    found: dict[str, list[Any]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        for leaf, default in leaves(name, parameter.default, kinds[name]):
            found.setdefault(leaf, []).append(plain(default))
    return found


def plain(value: Any) -> Any:
    """A default; nothing is None, however it is spelt, and a path is its text."""
    if value is inspect.Parameter.empty:
        return None
    return value if isinstance(value, bool | int | float) else str(value or "") or None


def of(table: dict[Any, Any], command: str, name: str) -> Any:
    """What a table says of an option, of this command or of all."""
    return table.get((command, name), table.get(name))


@pytest.mark.parametrize("command", FUNCTIONS)
def test_there_is_a_function_that_says_what_it_returns(command):
    function = function_of(command)
    assert inspect.isfunction(function)
    assert inspect.signature(function).return_annotation not in (
        None,
        dict,
        inspect.Parameter.empty,
    )


@pytest.mark.parametrize("command", FUNCTIONS)
def test_options_and_defaults_are_the_same(command):
    theirs, met = parameters(command), set()
    for option in load(command).params:
        other = of(NAMES, command, option.name)
        own = option.name in theirs and (command, option.name) not in NAMES
        name = other if other in theirs and not own else option.name
        if name in SEVERAL:
            met |= SEVERAL[name]
            continue
        if name not in theirs:
            assert of(COMMAND_LINE_ONLY, command, option.name), option.name
            continue
        met.add(name)
        ours = plain(option.default)
        if (command, option.name) in DIFFERENT:
            assert (ours, *theirs[name]) == DIFFERENT[command, option.name][:2]
        else:
            assert theirs[name] == [ours] * len(theirs[name]), option.name
    left = theirs.keys() - met
    assert [name for name in sorted(left) if name not in PYTHON_ONLY] == []


def options_of(kind: Any, options: typing.Mapping[str, Any]) -> list[str]:
    """The option classes that an annotation names, in its order; of unions and containers too."""
    parts = [one for part in typing.get_args(kind) for one in options_of(part, options)]
    name = getattr(kind, "__name__", "")
    return [name] if name in options and options[name] is kind else parts


PAGE = (Path(__file__).parents[2] / "docs/python.md").read_text(encoding="utf-8")
OPTIONS = {
    name: getattr(tsdi, name)
    for name in sorted(set(re.findall(r"`([A-Z]\w+)`", PAGE)) & set(tsdi.__all__))
    if dataclasses.is_dataclass(getattr(tsdi, name)) or name == "PairwiseJudge"
}


@pytest.mark.parametrize("command", FUNCTIONS)
def test_the_page_says_what_a_function_takes_and_returns(command):
    function = function_of(command)
    hints = typing.get_type_hints(function, {"Answering": tsdi.Answering})
    result = hints.pop("return")
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{command}` |"))
    _, _, name, returned, options, _ = row.split("|")
    assert name.strip(" `") == f"tsdi.{ROOMS.get(command, command.replace('-', '_'))}"
    for kind in typing.get_args(result) or [result]:
        named = (f"`{kind.__module__}.{kind.__name__}`", f"`tsdi.{kind.__name__}`")
        assert kind in (str, Path) or any(one in returned for one in named), kind
    shown = []
    for hint in hints.values():
        for option in dict.fromkeys(options_of(hint, OPTIONS)):
            fields = typing.get_type_hints(
                OPTIONS[option].__init__ if option == "PairwiseJudge" else OPTIONS[option],
                HINTS,
            )
            held = [one for kind in fields.values() for one in options_of(kind, OPTIONS)]
            inner = ", ".join(f"`{one}`" for one in dict.fromkeys(held))
            shown.append(f"`{option}`" + f" ({inner})" * bool(inner))
    assert options.strip() == ", ".join(shown)
