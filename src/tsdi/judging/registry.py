"""The registry of judges by name."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, NamedTuple

from tsdi.errors import UsageError
from tsdi.judging.base import Judge, JudgeOptions
from tsdi.judging.format import Format
from tsdi.judging.opening import open_format
from tsdi.judging.panel import Panel
from tsdi.models.names import locate
from tsdi.organism.world import find_item
from tsdi.yaml_file import meant


@dataclass(frozen=True)
class Known:
    """A judge in the registry, loaded when it is asked for.

    Attributes:
        opener: "module:name" of the judge itself, of its `Format`, or of a function that is called
            with `JudgeOptions`.
        sees: "safety", "refusals", "both", or "either", as the labels of a classifier say.
        needs: Requirements in a few words; hub ids are the weights it takes by itself.
        takes: Those of `ARGUMENTS` that it takes.
        api: Whether it is always asked over an API.
    """

    opener: str
    sees: str
    needs: str
    takes: tuple[str, ...] = ()
    api: bool = False


_RULE = "nothing (English)"
_LANGUAGES = {
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "zh": "Chinese",
    "ja": "Japanese",
}
_LOCAL = ("engine",)
_SERVED = ("url", "engine")  # its model may be behind a server, too
_MODEL = "NAME=MODEL, a sequence classifier"
JUDGES = {
    "organism": Known("tsdi.judging.organism:ORGANISM", "both", "organism prompts"),
    "refusal-phrases": Known("tsdi.judging.refusal:REFUSAL_PHRASES", "refusals", _RULE),
    **{
        f"refusal-phrases-{code}": Known(
            f"tsdi.judging.refusal_languages:{language.upper()}",
            "refusals",
            f"nothing ({language}, not audited)",
        )
        for code, language in _LANGUAGES.items()
    },
    "xstest-strings": Known("tsdi.judging.refusal:XSTEST_STRINGS", "refusals", _RULE),
    "keyword-list": Known("tsdi.judging.refusal:KEYWORD_LIST", "refusals", _RULE),
    "gcg-keywords": Known("tsdi.judging.refusal:GCG_KEYWORDS", "refusals", _RULE),
    "qwen3guard": Known(
        "tsdi.judging.qwen3guard:Qwen3Guard", "both", "Qwen/Qwen3Guard-Gen-4B", _SERVED
    ),
    "qwen3guard-loose": Known(
        "tsdi.judging.qwen3guard:Qwen3GuardLoose", "both", "Qwen/Qwen3Guard-Gen-4B", _SERVED
    ),
    "polyguard": Known(
        "tsdi.judging.polyguard:PolyGuard", "both", "ToxicityPrompts/PolyGuard-Qwen", _SERVED
    ),
    "gpt-oss-safeguard": Known(
        "tsdi.judging.policy:open_safeguard",
        "safety",
        "openai/gpt-oss-safeguard-20b",
        ("url", "engine", "policy"),
    ),
    "granite-guardian": Known(
        "tsdi.judging.policy:open_granite_guardian",
        "safety",
        "ibm-granite/granite-guardian-4.1-8b",
        ("url", "engine", "policy"),
    ),
    "question": Known(
        "tsdi.judging.policy:open_question", "safety", "question=MODEL", ("url", "engine", "policy")
    ),
    "strongreject": Known(
        "tsdi.judging.strongreject:StrongReject", "both", "strongreject=MODEL", _SERVED
    ),
    "llm-refusal": Known(
        "tsdi.judging.api:open_llm_refusal",
        "refusals",
        "llm-refusal=MODEL and an API",
        ("url",),
        True,
    ),
    "md-judge-v0.1": Known(
        "tsdi.judging.md_judge:MDJudge01", "safety", "OpenSafetyLab/MD-Judge-v0.1", _LOCAL
    ),
    "md-judge-v0.2": Known(
        "tsdi.judging.md_judge:MDJudge02",
        "safety",
        "OpenSafetyLab/MD-Judge-v0_2-internlm2_7b",
        _LOCAL,
    ),
    "llama-guard-3": Known(
        "tsdi.judging.llama_guard:LlamaGuard3",
        "safety",
        "meta-llama/Llama-Guard-3-8B",
        _SERVED,
    ),
    "llama-guard-4": Known(
        "tsdi.judging.llama_guard:LlamaGuard4",
        "safety",
        "meta-llama/Llama-Guard-4-12B",
        _SERVED,
    ),
    "wildguard": Known("tsdi.judging.wildguard:WildGuard", "both", "allenai/wildguard", _LOCAL),
    "harmbench": Known(
        "tsdi.judging.harmbench:HarmBench", "safety", "cais/HarmBench-Llama-2-13b-cls", _LOCAL
    ),
    "minos": Known("tsdi.judging.classifier:open_minos", "refusals", "NousResearch/Minos-v1"),
    "classifier": Known(
        "tsdi.judging.classifier:open_classifier", "either", _MODEL, ("labels", "template")
    ),
    "answer-classifier": Known(
        "tsdi.judging.classifier:open_answer_classifier", "either", _MODEL, ("labels",)
    ),
}


class Argument(NamedTuple):
    """One of `JudgeOptions` that not all judges take.

    Attributes:
        takers: What takes it, in a few words.
        value: What its value is.
    """

    takers: str
    value: str


_NONE = JudgeOptions()
ARGUMENTS = {
    "url": Argument(
        "a judge over an API", "base URL of an OpenAI-compatible API; default: OPENAI_BASE_URL"
    ),
    "engine": Argument("a judge that writes its verdict", "what runs it: transformers or vllm"),
    "labels": Argument("a classifier", "what its labels mean: toxic=UNSAFE,ok=SAFE"),
    "policy": Argument("a judge of one", "file with the policy, criterion or question"),
    "template": Argument(
        "a classifier of pairs", "file with the one text that it reads, {prompt} and {answer} in it"
    ),
}
DEFAULT_JUDGE = "refusal-phrases"
ENGINES = ("transformers", "vllm")
"""Engines of judges; one behind a server is asked over its API."""


def judges() -> dict[str, Known]:
    """All judges of the registry by name."""
    return dict(JUDGES)


def takers_of(argument: str) -> list[str]:
    """The judges that take one of `ARGUMENTS`."""
    return [name for name, known in JUDGES.items() if argument in known.takes]


def without(options: JudgeOptions, arguments: Iterable[str] = ARGUMENTS) -> JudgeOptions:
    """Options of a judge without some of `ARGUMENTS`."""
    left_out: dict[str, Any] = {name: getattr(_NONE, name) for name in arguments}
    return replace(options, **left_out)


def load_judge(spec: str, options: JudgeOptions = JudgeOptions()) -> Judge:
    """Load a judge, or a panel of two, by its spec.

    Args:
        spec: One of `JUDGES`, with "=MODEL" where it needs a model or another one than its own; or
            two of these, "HARMFUL+HARMLESS", one for each side (`tsdi.judging.panel.Panel`).
        options: Options of opening it, but for the model.

    Raises:
        UsageError: If there is no such judge, or an option means nothing to it.
        TsdiError: If its weights cannot be loaded.
    """
    parts = check_judge(spec, options)
    judges = [_open(name, replace(options, model=model)) for name, model in parts]
    return judges[0] if len(judges) == 1 else Panel(*judges)


def check_judge(spec: str, options: JudgeOptions = JudgeOptions()) -> list[tuple[str, str | None]]:
    """The one or two judges of a spec, each with its model; loads nothing.

    Raises:
        UsageError: If there is no such judge, more than two are named, or an option means nothing
            to any of them.
    """
    parts = [part.partition("=") for part in spec.split("+")]
    for name, _, _ in parts:
        if name not in JUDGES:
            raise UsageError(
                f"There is no judge {name!r}{meant(name, JUDGES)}.", f"Judges: {', '.join(JUDGES)}."
            )
    if len(parts) > 2:
        raise UsageError(
            f"{spec!r} names {len(parts)} judges.",
            "Name one, or one for harmful prompts and one for the others: A+B.",
        )
    _check_options(options, {name for name, _, _ in parts})
    return [(name, model or None) for name, _, model in parts]


def find_weights(spec: str, options: JudgeOptions = JudgeOptions()) -> None:
    """Check a judge's spec, and that its weights are there, before answers are made for it.

    Raises:
        UsageError: As `check_judge` does.
        ModelError: If the weights are in no folder and not on the hub.
    """
    for name, model in check_judge(spec, options):
        known = JUDGES[name]
        if known.api or options.url is not None:
            continue
        if "/" in known.needs:
            locate(model or known.needs)
        elif model and "MODEL" in known.needs:
            locate(model)


def _check_options(options: JudgeOptions, names: AbstractSet[str]) -> None:
    for name, argument in ARGUMENTS.items():
        takers = takers_of(name)
        if getattr(options, name) != getattr(_NONE, name) and names.isdisjoint(takers):
            raise UsageError(
                f"The judge argument {name} needs {argument.takers}: {', '.join(takers)}.",
                "Leave it out.",
            )
    if options.engine == _NONE.engine:
        return
    if options.engine.name not in ENGINES:
        raise UsageError(
            f"A judge cannot run on {options.engine.name!r}{meant(options.engine.name, ENGINES)}.",
            f"Take {' or '.join(ENGINES)}, or a server, by the judge argument url.",
        )
    if options.url is not None:
        raise UsageError(
            "A judge behind a server has that server's engine.",
            "Leave out one of the judge arguments engine and url.",
        )
    options.engine.check()


def _open(name: str, options: JudgeOptions) -> Judge:
    """Open a judge with the options that it takes."""
    known = JUDGES[name]
    module, _, named = known.opener.partition(":")
    found: Any = getattr(import_module(module), named)
    taken = without(options, [one for one in ARGUMENTS if one not in known.takes])
    if isinstance(found, Judge):
        if options.model is not None:
            raise UsageError(f"The judge {name} takes no model.", "Leave it out.")
        return found
    judge: Judge = open_format(found(), taken) if _is_format(found) else found(taken)
    return judge


def _is_format(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Format)


def is_api(name: str) -> bool:
    """Whether a judge always asks a model behind an API."""
    return JUDGES[name].api


def default_judge(prompts: Iterable[str]) -> str:
    """The default judge of prompts: ground truth where there is one, else refusal-phrases."""
    return "organism" if all(find_item(text) for text in prompts) else DEFAULT_JUDGE
