"""Prompts answered and judged at once, in memory."""

from collections.abc import Sequence

from tsdi.engines.base import Engine, Request, Sampling
from tsdi.judging.base import Judge
from tsdi.judging.verdict import Judgement
from tsdi.runs.responses import to_response
from tsdi.suites.prompts import Prompt


def judge_answers(
    engine: Engine,
    judge: Judge,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    end_of_thinking: str = "",
) -> list[Judgement]:
    """Judgements of an engine's answers to prompts, in their order."""
    completions = engine.generate([Request(prompt.messages) for prompt in prompts], sampling)
    pairs = zip(prompts, completions, strict=True)
    return judge.judge([to_response(prompt, one, end_of_thinking) for prompt, one in pairs])
