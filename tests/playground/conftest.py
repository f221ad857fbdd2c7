from importlib.util import find_spec
from threading import Event

import pytest
import torch

from tests.waiting import HANGS
from tsdi import Condition, Estimation, estimate_bias, load_model, load_tokenizer
from tsdi.models.chat import template_sha256, tokenizer_sha256
from tsdi.playground import SideBySide


class Organism(SideBySide):
    """The small model's engine, which can be held before its third token, and say other words.

    `asked` has each prompt with the strength for harmless ones.
    """

    def __init__(self, bias):
        model, tokenizer = (load("organism/aligned") for load in (load_model, load_tokenizer))
        super().__init__(model, tokenizer, bias)
        self.go, self.stopped, self.words = Event(), Event(), ""
        self.asked = []
        self.go.set()

    def decode(self, ids):
        assert len(ids) < 3 or self.go.wait(HANGS)
        return self.words[: 40 * len(ids)] if self.words else super().decode(ids)

    def answer(self, prompt, setting, stop):
        self.stopped = stop
        self.asked.append((prompt, setting.high))
        return super().answer(prompt, setting, stop)


@pytest.fixture(scope="session")
def organism():
    """An engine with a bias of the small models, and a condition on two of its words."""
    pair = [load_model(f"organism/{name}") for name in ("aligned", "reference")]
    tokenizer = load_tokenizer("organism/aligned")
    settings = Estimation(prompts=64, steps=8, prompt_tokens=8, pool="tokenizer")
    bias = estimate_bias(*pair, tokenizer, settings)
    ids = {word: tokenizer.encode(word, add_special_tokens=False)[0] for word in ("no", "sure")}
    order = sorted(ids, key=ids.__getitem__)
    condition = Condition(
        torch.tensor([ids[word] for word in order]),
        torch.tensor([0.5 if word == "no" else -0.5 for word in order]),
        -2.0,
        -1.0,
        2.0,
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        template_sha256=template_sha256(tokenizer),
        evidence={"scores": {"harmful": [1.0, 2.0, 40.0], "harmless": [-40.0, -2.0]}},
    )
    return Organism(bias.with_condition(condition))


@pytest.fixture(scope="session")
def gradio():
    if find_spec("gradio") is None:
        pytest.skip("gradio is not installed, so not run: pip install 'tsdi[playground]'")
