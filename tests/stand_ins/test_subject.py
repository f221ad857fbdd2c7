"""What a model makes of labelled prompts, against one forward pass for each."""

import pytest
import torch

from tests import tiny
from tests.stand_ins.made import PHRASES, TOKENIZER, by_kind, subject
from tsdi.bias.refusal_log_odds import phrase_ids, refusal_log_odds
from tsdi.errors import PromptError
from tsdi.stand_ins.subject import Odds


def test_log_odds_are_those_of_each_prompt_alone():
    model, bias = tiny.model(), tiny.bias().values
    asked = subject(model)
    found = asked.odds(model, asked.fit, (None, bias))
    phrases = [phrase_ids(TOKENIZER, texts) for texts in (PHRASES.refusing, PHRASES.complying)]
    kinds = [*asked.fit["harmless"], *asked.fit["lookalike"]], asked.fit["harmful"]
    for rows, odds in zip(kinds, (found.harmless, found.harmful), strict=True):
        alone = [refusal_log_odds(model, row, *phrases, (None, bias)) for row in rows]
        assert torch.allclose(odds, torch.tensor(alone, dtype=torch.float64), atol=2e-3)


def test_the_threshold_is_the_best_of_all():
    drawn = torch.Generator().manual_seed(0)
    odds = Odds(
        torch.randn(30, 1, generator=drawn, dtype=torch.float64) * 2,
        torch.randn(20, 1, generator=drawn, dtype=torch.float64) + 5,
    )

    def balance(taken):
        answered = [1 / (1 + torch.exp(x - taken)) for x in odds.harmless[:, 0]]
        refused = [1 / (1 + torch.exp(taken - x)) for x in odds.harmful[:, 0]]
        return float(sum(answered) / 30 * sum(refused) / 20)

    assert float(odds.balance) == pytest.approx(balance(0.0))
    best = max((balance(t / 100), t / 100) for t in range(0, 800))
    assert odds.wanted == pytest.approx(best[1], abs=0.05)
    assert 1 < odds.wanted < 5


def test_where_every_prompt_is_answered_nothing_is_wanted():
    assert Odds(torch.full((9, 1), -9.0), torch.full((9, 1), -1.0)).wanted == 0


@pytest.mark.parametrize("half", ["fit", "validation"])
def test_a_half_with_few_prompts_of_a_kind_is_refused(half):
    few = by_kind(0) | {"harmful": by_kind(0)["harmful"][:7]}
    with pytest.raises(PromptError, match="7 harmful and 20 harmless"):
        subject(tiny.model(), **{half: few})
