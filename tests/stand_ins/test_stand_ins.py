"""Every stand-in against a slow computation of what it says it is."""

import copy

import pytest
import torch

from tests import tiny
from tests.stand_ins.made import PHRASES, SETTINGS, TOKENIZER, by_kind, subject
from tsdi.baselines.directions import (
    false_refusal_direction,
    mean_activations,
    refusal_direction,
)
from tsdi.bias import estimate_bias
from tsdi.bias.openers import own_openers
from tsdi.errors import MismatchError, ModelError, PromptError, UsageError
from tsdi.models.chat import encode_chat
from tsdi.models.load import load_tokenizer
from tsdi.models.sides import as_side
from tsdi.stand_ins import names
from tsdi.stand_ins.ablated import Ablation, ablated_bias, choose_ablation, partly_ablated_bias
from tsdi.stand_ins.calibration import calibrate
from tsdi.stand_ins.openers import openers_bias
from tsdi.stand_ins.permissive import PERMISSION, permissive_bias
from tsdi.stand_ins.self_contrast import self_contrast_bias
from tsdi.stand_ins.table import STAND_INS

MODEL = tiny.model(num_hidden_layers=4)


@torch.no_grad()
def without(along, share=1.0):
    """The model with a share of a direction taken out of what is written, in its weights."""
    made = copy.deepcopy(MODEL)
    project = torch.eye(32) - share * torch.outer(along, along)
    made.model.embed_tokens.weight.copy_(made.model.embed_tokens.weight @ project)
    for layer in made.model.layers:
        for writer in (layer.self_attn.o_proj, layer.mlp.down_proj):
            writer.weight.copy_(project @ writer.weight)
    return made


def test_the_table_has_every_name():
    assert set(STAND_INS) == set(names.NAMES)


class TestAblated:
    def test_it_is_the_bias_against_orthogonalised_weights(self):
        asked = subject(MODEL)
        found = ablated_bias(asked)
        chosen = choose_ablation(asked, (1.0,))
        weights = without(chosen.direction.float())
        by_hand = estimate_bias(MODEL, weights, TOKENIZER, SETTINGS)
        assert tiny.error(found.values, by_hand.values) < 1e-4
        assert tiny.error(found.standard_error, by_hand.standard_error) < 1e-4
        assert found.info.stand_in == "ablated"
        assert f"layer {chosen.layer}" in found.info.reference

    def test_the_layer_is_chosen_on_validation_prompts_and_then_the_share(self):
        asked, shares = subject(MODEL), (0.5, 1.0, 0.25)
        chosen = choose_ablation(asked, shares)
        means = {kind: mean_activations(MODEL, rows) for kind, rows in asked.fit.items()}

        def balance(layer, share):
            refusal = refusal_direction(means["harmful"][layer], means["harmless"][layer])
            along = false_refusal_direction(
                means["lookalike"][layer], means["harmless"][layer], refusal
            )
            weights = without(along.float(), share)
            return float(asked.odds(weights, asked.validation).balance)

        layers = {layer: balance(layer, 0.5) for layer in (1, 2, 3)}
        layer = max(layers, key=layers.get)
        found = {share: balance(layer, share) for share in shares}
        assert (chosen.layer, chosen.share) == (layer, max(found, key=found.get))
        assert partly_ablated_bias(asked).info.stand_in == "partly-ablated"

    def test_the_model_is_itself_afterwards(self):
        rows = tiny.ids(2, 9)
        before = tiny.logits(MODEL, rows, 9)
        ablated_bias(subject(MODEL))
        assert torch.equal(tiny.logits(MODEL, rows, 9), before)

    def test_sums_of_another_direction_are_not_gone_on_with(self, tmp_path):
        side = Ablation(1, 1.0, torch.eye(32, dtype=torch.float64)[0]).side(as_side(MODEL))
        other = Ablation(1, 1.0, torch.eye(32, dtype=torch.float64)[1]).side(as_side(MODEL))
        estimate_bias(MODEL, side, TOKENIZER, SETTINGS, checkpoints=tmp_path)
        with pytest.raises(MismatchError, match="other settings"):
            estimate_bias(MODEL, other, TOKENIZER, SETTINGS, checkpoints=tmp_path)

    def test_it_takes_lookalikes(self):
        few = by_kind(0) | {"lookalike": []}
        few["harmless"] = by_kind(0, 20)["harmless"]
        with pytest.raises(PromptError, match="too few lookalikes"):
            ablated_bias(subject(MODEL, fit=few))

    def test_other_architectures_do_not_apply(self):
        with pytest.raises(ModelError, match="Llama-like"):
            ablated_bias(subject(tiny.model("gpt2")))


class TestSelfContrast:
    def test_it_is_the_difference_of_means_along_the_same_tokens(self):
        asked = subject(MODEL)
        odds = asked.odds(MODEL, asked.fit)
        rows = [*asked.fit["harmless"], *asked.fit["lookalike"], *asked.fit["harmful"]]
        every = torch.cat([odds.harmless, odds.harmful])[:, 0]
        refused = every > 0
        if not 8 <= int(refused.sum()) <= 22:
            refused = every > every.median()
        responses = SETTINGS.random_prompts(TOKENIZER).ids(0, 30)[:, -2:].tolist()
        means = []
        for kind in (True, False):
            some = [row for row, own in zip(rows, refused, strict=True) if bool(own) is kind]
            logits = torch.cat(
                [
                    tiny.logits(MODEL, torch.tensor([row + response]), 3)
                    for row, response in zip(some, responses, strict=False)
                ]
            )
            means.append(torch.stack([logits[g::4].mean(0) for g in range(4)]))
        shifts = means[0] - means[1]
        shifts -= shifts.mean(-1, keepdim=True)
        found = self_contrast_bias(asked)
        assert tiny.error(found.values, shifts.mean(0)) < 1e-4
        assert tiny.error(found.standard_error, shifts.std(0) / 2) < 1e-4
        assert found.info.stand_in == "self-contrast"
        assert (found.info.prompts, found.info.groups) == (30, 4)

    def test_capped_logits_do_not_apply(self):
        with pytest.raises(ModelError, match="not linear"):
            self_contrast_bias(subject(tiny.model("gemma2")))


def test_openers_are_one_logit_on_the_models_own(monkeypatch):
    asked = subject(MODEL)
    prompts = asked.fit["harmful"], [*asked.fit["harmless"], *asked.fit["lookalike"]]
    monkeypatch.setattr("tsdi.bias.openers._CLEAR", 0.0)
    monkeypatch.setattr("tsdi.bias.openers.APART", 0.0)
    refusing = list(own_openers(MODEL, TOKENIZER, *prompts).refusing)
    found = openers_bias(asked)
    assert found.values.shape == (1, tiny.VOCAB)
    assert found.values.mean() == pytest.approx(0, abs=1e-6)
    apart = found.values[0] - found.values[0].min()
    assert apart.nonzero()[:, 0].tolist() == sorted(refusing)
    assert torch.allclose(apart[refusing], torch.ones(len(refusing)))


def test_a_permissive_system_prompt_stands_before_the_same_random_prompts():
    found = permissive_bias(subject(MODEL))
    text = f"<bos><|system|>{PERMISSION}<|end|><|user|>{{prompt}}<|end|><|assistant|>"
    assert found.info.reference_format == text
    assert found.info.stand_in == "permissive"
    prefix = encode_chat(
        TOKENIZER,
        [{"role": "system", "content": PERMISSION}, {"role": "user", "content": "wheat"}],
    )
    drawn = SETTINGS.random_prompts(TOKENIZER)
    begin = len(drawn.frame.prefix)
    ours = drawn.ids(0, 24)
    before = prefix[: prefix.index(TOKENIZER.convert_tokens_to_ids("<|user|>")) + 1]
    theirs = torch.cat([torch.tensor([before] * 24), ours[:, begin:]], 1)
    shift = tiny.logits(MODEL, ours, 3) - tiny.logits(MODEL, theirs, 3)
    shift = (shift - shift.mean(-1, keepdim=True)).mean(0)
    assert tiny.error(found.values, shift) < 1e-4


def test_a_system_prompt_in_unknown_words_does_not_apply():
    organism = load_tokenizer("organism/aligned")
    asked = subject(MODEL)
    with pytest.raises(UsageError, match="does not know the words"):
        permissive_bias(type(asked)(asked.side, organism, asked.fit, asked.validation, SETTINGS))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bias_is_scaled_to_what_validation_prompts_want_unless_its_sign_is_wrong(sign):
    values = torch.zeros(1, tiny.VOCAB)
    first = [TOKENIZER(text)["input_ids"][0] for text in PHRASES.refusing]
    values[0, first] = 0.25 * sign
    asked = subject(MODEL)
    odds = asked.odds(MODEL, asked.validation)
    _, found = calibrate(asked, [tiny.bias(), tiny.bias(values)])
    assert found.wanted == odds.wanted
    assert found.wrong == (sign < 0)
    if sign > 0 and found.wanted:
        after = asked.odds(MODEL, asked.validation, (None, found.bias.shift)).harmless
        assert float((after[:, 0] - after[:, 1]).mean()) == pytest.approx(found.wanted, abs=0.05)
        assert found.taken.value == pytest.approx(found.wanted)
    else:
        assert found.factor == 1
