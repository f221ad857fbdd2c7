"""Losses of DPO and KTO, as recipes set TRL up, against slow float64 references.

Reference: token log-probabilities of one unpadded row at a time in float64, summed over the answer
and its end token. DPO (Rafailov et al., 2023, equation 7):

    -log sigmoid(beta ((pi_c - ref_c) - (pi_r - ref_r))) + sft_weight x NLL of the chosen tokens

KTO (Ethayarajh et al., 2024, equation 8, both weights 1), z the mean of pi - ref over mismatched
answers, at least 0 and without gradient:

    1 - sigmoid(beta (pi - ref - z))  if desirable,   1 - sigmoid(beta (z - pi + ref))  if not
"""

import copy
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid

from tests.training.made import PAIRS
from tsdi.training.data import Pair, Rating
from tsdi.training.new_model import new_model, new_tokenizer
from tsdi.training.recipe import NewModel, Preference
from tsdi.training.trainers import Run, build_trainer

# TRL still calls it by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
BETA, LENGTH, SEED = 0.3, 40, 3
ROWS = [0, 1, 2, 3]
SIZES = NewModel(hidden_size=16, intermediate_size=32, layers=2, heads=2, vocabulary=300)
LONG = " It goes on and on, well beyond what the model is given to read of it."
PAIRS_OF_MANY_LENGTHS = [
    Pair(row["prompt"], row["chosen"] + LONG * (n % 3 == 1), row["rejected"] + LONG * (n % 4 == 2))
    for n, row in enumerate(PAIRS[:8])
]
RATINGS = [
    Rating(pair.prompt, answer, good)
    for pair in PAIRS_OF_MANY_LENGTHS
    for answer, good in ((pair.chosen, True), (pair.rejected, False))
]


class Setup:
    """A trainer whose model has moved away from the reference, and float64 copies of both."""

    def __init__(self, folder: Path, method: str, items, moved: float = 0.2, **changes) -> None:
        texts = [f"{row['prompt']} {row['chosen']}" for row in PAIRS]
        self.tokenizer = new_tokenizer(texts, SIZES.vocabulary)
        model = new_model(SIZES, self.tokenizer, SEED)
        self.reference = copy.deepcopy(model).double()
        stage = Preference.model_validate(
            {
                "method": method,
                "data": ["made"],
                "prefer": "safe",
                "beta": BETA,
                "steps": 2,
                "batch_size": len(ROWS),
                "learning_rate": 1e-3,
                "max_length": LENGTH,
            }
            | changes
        )
        run = Run(
            name="made",
            stage=stage,
            beta=stage.beta[0],
            start="made",
            dtype="float32",
            keep={0: folder / "m"},
            work=folder / "w",
            reference=folder / "r",
            seed=SEED,
        )
        self.trainer = build_trainer(run, model, self.tokenizer, items, [])
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn(weight.shape, generator=generator) * moved)
        self.policy = copy.deepcopy(model).double()
        numbers = Dataset.from_dict({"n": range(len(items))})
        order = numbers.shuffle(seed=SEED) if method == "kto" else numbers
        self.items = [items[n] for n in order["n"]]

    def loss(self) -> float:
        rows = [self.trainer.train_dataset[n] for n in ROWS]
        batch = self.trainer.data_collator(rows)
        return self.trainer.compute_loss(self.trainer.model.train(), batch).item()

    def column(self, name):
        return list(self.trainer.train_dataset[name])

    def tokens(self, model, prompt: str, answer: str):
        """Log-probabilities of an answer's tokens, the end token among them, in float64."""
        user = {"role": "user", "content": prompt}
        chat = [user, {"role": "assistant", "content": answer}]
        begin = self.tokenizer.apply_chat_template([user], add_generation_prompt=True)["input_ids"]
        ids = torch.tensor([self.tokenizer.apply_chat_template(chat)["input_ids"][:LENGTH]])
        with torch.no_grad():
            log_probs = model(input_ids=ids).logits.double().log_softmax(-1)
        return torch.stack(
            [log_probs[0, place - 1, ids[0, place]] for place in range(len(begin), ids.shape[1])]
        )

    def ratio(self, prompt: str, answer: str):
        """log pi(answer) - log ref(answer)."""
        policy, reference = (
            self.tokens(model, prompt, answer).sum() for model in (self.policy, self.reference)
        )
        return policy - reference


def dpo64(setup: Setup, beta: float, sft_weight: float) -> float:
    pairs = [setup.items[n] for n in ROWS]
    margins = torch.stack(
        [setup.ratio(p.prompt, p.chosen) - setup.ratio(p.prompt, p.rejected) for p in pairs]
    )
    chosen = torch.cat([setup.tokens(setup.policy, p.prompt, p.chosen) for p in pairs])
    return float(-logsigmoid(beta * margins).mean() - sft_weight * chosen.mean())


def kto64(setup: Setup, beta: float) -> float:
    rated = [setup.items[n] for n in ROWS]
    # Mismatched answers: in every batch each prompt gets the answer of the row before it.
    answers = [rated[n - 1].answer for n in range(len(rated))]
    z = torch.stack([setup.ratio(r.prompt, a) for r, a in zip(rated, answers, strict=True)])
    z = z.mean().clamp(min=0)
    losses = []
    for one in rated:
        gain = setup.ratio(one.prompt, one.answer) - z
        losses.append(1 - torch.sigmoid(beta * (gain if one.good else -gain)))
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize(("beta", "sft_weight"), [(0.3, 0.0), (0.02, 0.0), (0.3, 0.7)])
def test_dpo(tmp_path, beta, sft_weight):
    changes = {"beta": beta, "sft_weight": sft_weight}
    setup = Setup(tmp_path, "dpo", PAIRS_OF_MANY_LENGTHS, **changes)
    assert setup.loss() == pytest.approx(dpo64(setup, beta, sft_weight), rel=1e-5)


@pytest.mark.parametrize("beta", [0.3, 0.02])
@pytest.mark.parametrize("moved", [0.2, 0.05])
def test_kto(tmp_path, beta, moved):
    setup = Setup(tmp_path, "kto", RATINGS, moved, beta=beta)
    assert setup.loss() == pytest.approx(kto64(setup, beta), rel=1e-5)


def test_the_batch_has_answers_of_different_lengths_one_of_them_cut(tmp_path):
    setup = Setup(tmp_path, "dpo", PAIRS_OF_MANY_LENGTHS)
    chats = [
        [{"role": "user", "content": pair.prompt}, {"role": "assistant", "content": pair.chosen}]
        for pair in (setup.items[n] for n in ROWS)
    ]
    lengths = [len(ids) for ids in setup.tokenizer.apply_chat_template(chats)["input_ids"]]
    assert min(lengths) < LENGTH < max(lengths)


def test_the_precomputed_log_probabilities_are_the_references(tmp_path):
    setup = Setup(tmp_path, "dpo", PAIRS_OF_MANY_LENGTHS)
    for side, column in (("chosen", "ref_chosen_logps"), ("rejected", "ref_rejected_logps")):
        expected = [
            float(setup.tokens(setup.reference, pair.prompt, getattr(pair, side)).sum())
            for pair in setup.items
        ]
        assert setup.column(column) == pytest.approx(expected, rel=1e-5)


def test_a_second_beta_takes_the_log_probabilities_of_the_first(tmp_path):
    first = Setup(tmp_path, "dpo", PAIRS_OF_MANY_LENGTHS)
    again = Setup(tmp_path, "dpo", PAIRS_OF_MANY_LENGTHS, beta=0.1)
    for column in ("ref_chosen_logps", "ref_rejected_logps"):
        assert again.column(column) == first.column(column)
    assert again.loss() == pytest.approx(dpo64(again, 0.1, 0.0), rel=1e-5)
