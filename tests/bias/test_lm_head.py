"""The two ways to mean logits, through logits and through the mean of the head's inputs, agree."""

import pytest
import torch
from torch import nn

from tests import tiny
from tsdi.bias import lm_head as head

STEPS = 4
LINEAR = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gpt2",
    "gpt_neox",
    "phi",
    "mixtral",
    "gemma",
    "granite",
    "cohere",
    "olmo",
)


def by_mean_input(model, ids):
    mean = head.head_inputs(model, ids, STEPS).double().mean(0, keepdim=True).float()
    return head.logits_from(model, mean)[0]


@pytest.mark.parametrize("kind", LINEAR)
class TestLinearHeads:
    def test_logits_of_the_mean_input_are_the_mean_logits(self, kind):
        model = tiny.model(kind)
        truth = tiny.logits(model, tiny.ids(), STEPS).mean(0)
        assert tiny.error(by_mean_input(model, tiny.ids()), truth) < 1e-5
        assert head.is_linear(model, tiny.ids(), STEPS)

    def test_inputs_put_back_give_ordinary_logits(self, kind):
        model = tiny.model(kind)
        truth = tiny.logits(model, tiny.ids(), STEPS)
        put_back = head.logits_from(model, head.head_inputs(model, tiny.ids(), STEPS))
        assert tiny.error(put_back, truth) < 1e-5
        assert tiny.error(head.logits(model, tiny.ids(), STEPS), truth) < 1e-5


def test_a_head_bias_is_in_the_logits():
    model = tiny.model("phi")
    before = by_mean_input(model, tiny.ids())
    model.lm_head.bias.data[17] += 5
    assert (by_mean_input(model, tiny.ids()) - before)[:, 17] == pytest.approx(5, rel=1e-4)


def test_nothing_goes_through_the_head():
    model, shapes = tiny.model(), []
    model.lm_head.register_forward_hook(lambda _m, _a, out: shapes.append(tuple(out.shape)))
    assert head.head_inputs(model, tiny.ids(), STEPS).shape == (6, STEPS, 32)
    assert shapes == [(0, 1, tiny.VOCAB)]


class TestNonlinearEnds:
    def capped(self, scale):
        model = tiny.model("gemma2", tie_word_embeddings=False)
        model.lm_head.weight.data.mul_(scale)
        return model

    def test_a_soft_cap_means_streaming(self):
        model = self.capped(20)
        ids = tiny.ids()
        truth = tiny.logits(model, ids, STEPS)
        assert truth.abs().max() > 25, "the cap of 30 must matter for this test to mean anything"
        assert not head.is_linear(model, ids, STEPS)
        assert tiny.error(head.logits(model, ids, STEPS), truth) < 1e-5
        wrong = tiny.error(by_mean_input(model, ids), truth.mean(0))
        assert wrong > 0.05, "the mean path would be right after all"

    def test_a_soft_cap_means_streaming_even_where_it_does_not_show(self):
        model, ids = self.capped(1e-6), tiny.ids()
        assert tiny.error(by_mean_input(model, ids), tiny.logits(model, ids, STEPS).mean(0)) < 1e-5
        assert not head.is_linear(model, ids, STEPS)

    def test_an_end_that_the_config_does_not_tell_of_is_noticed(self):
        model = tiny.model()
        model.lm_head = nn.Sequential(model.lm_head, nn.Tanh())
        assert not head.is_linear(model, tiny.ids(), STEPS)

    def test_nan_is_not_linear(self):
        model = tiny.model()
        model.lm_head.weight.data[5] = torch.nan
        assert not head.is_linear(model, tiny.ids(), STEPS)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
class TestBfloat16:
    def model(self, tied):
        return tiny.model("llama", tie_word_embeddings=tied).bfloat16()

    def test_the_head_runs_in_float32(self, tied):
        model, ids = self.model(tied), tiny.ids()
        inputs = head.head_inputs(model, ids, STEPS)
        assert inputs.dtype == torch.bfloat16
        truth = inputs.double() @ model.lm_head.weight.double().T
        for found in (head.logits(model, ids, STEPS), head.logits_from(model, inputs)):
            assert found.dtype == torch.float32
            assert tiny.error(found, truth) < 1e-6
        assert tiny.error(tiny.logits(model, ids, STEPS), truth) > 1e-3
        assert head.is_linear(model, ids, STEPS)

    def test_the_model_is_left_as_it_was(self, tied):
        model = self.model(tied)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        head.logits(model, tiny.ids(), STEPS)
        head.is_linear(model, tiny.ids(), STEPS)
        shared = model.lm_head.weight is model.model.embed_tokens.weight
        assert shared == tied
        assert not model.lm_head._forward_pre_hooks
        for name, value in model.state_dict().items():
            assert value.dtype == torch.bfloat16
            assert torch.equal(value, before[name])


class TestTrainingMode:
    def model(self):
        model = tiny.model("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5).train()
        model.transformer.h[0].eval()
        return model

    def flags(self, model):
        return {name: module.training for name, module in model.named_modules()}

    def test_dropout_is_off(self):
        model, ids = self.model(), tiny.ids()
        found = head.logits(model, ids, STEPS), head.head_inputs(model, ids, STEPS)
        model.eval()
        assert torch.equal(found[0], head.logits(model, ids, STEPS))
        assert torch.equal(found[1], head.head_inputs(model, ids, STEPS))

    def test_flags_are_restored(self):
        model = self.model()
        before = self.flags(model)
        assert len(set(before.values())) == 2
        head.logits(model, tiny.ids(), STEPS)
        assert self.flags(model) == before

    def test_flags_and_hooks_are_restored_after_an_error(self):
        model = self.model()
        before = self.flags(model)
        with pytest.raises(IndexError):
            head.head_inputs(model, tiny.ids() + tiny.VOCAB, STEPS)
        assert self.flags(model) == before
        assert not model.lm_head._forward_pre_hooks
