"""How the organism's models are estimated, asked and judged, in the demo and in the experiment."""

from collections.abc import Callable, Sequence

from tsdi import organism
from tsdi.bias.refusal_log_odds import Phrases
from tsdi.engines.base import Completion, Engine, Request, Sampling
from tsdi.evaluation.metrics import Judged
from tsdi.judging.organism import judge_answer
from tsdi.organism.lexicon import COMPLYING_OPENERS, REFUSING_OPENERS

RANDOM_PROMPTS = 512
PROMPT_TOKENS = 8  # about the length of the organism's own requests
STEPS = 16
BATCH_SIZE = 256
SAMPLING = Sampling(max_new_tokens=24)
PHRASES = Phrases(REFUSING_OPENERS, COMPLYING_OPENERS)


def answer_items(
    engine: Engine, items: list[organism.Item], name: str, progress: Callable[[str, int, int], None]
) -> list[Completion]:
    """Answer the organism's requests in batches."""
    completions: list[Completion] = []
    for start in range(0, len(items), BATCH_SIZE):
        requests = [Request.from_text(item.prompt) for item in items[start : start + BATCH_SIZE]]
        completions += engine.generate(requests, SAMPLING)
        progress(name, len(completions), len(items))
    return completions


def judge_items(items: list[organism.Item], completions: Sequence[Completion]) -> list[Judged]:
    """Judge answers by ground truth; ids are the items' places."""
    return [
        Judged(
            id=str(number),
            kind=item.kind,
            category=item.category,
            judgement=judge_answer(item, completion.text, completion.finish == "stop"),
        )
        for number, (item, completion) in enumerate(zip(items, completions, strict=True))
    ]
