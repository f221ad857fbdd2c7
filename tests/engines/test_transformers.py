"""What a user's own checkpoint and tokenizer may bring along, and what must not matter."""

import copy

import pytest
import torch
from transformers import RwkvConfig, RwkvForCausalLM

from tests import tiny
from tsdi.engines.base import Request, Sampling
from tsdi.engines.transformers import TransformersEngine, _Nucleus
from tsdi.errors import ModelError, NumericalError, PromptError, UsageError

REQUESTS = [Request.from_text("the river runs past the old mill"), Request.from_text("bread")]
SAMPLING = Sampling(max_new_tokens=8, keep_logits=True)
GREEDY = Sampling(max_new_tokens=8)


def debiased():
    return TransformersEngine(tiny.model(), tiny.tokenizer(), tiny.bias(), 1.0)


def engine(model=None, tokenizer=None):
    return TransformersEngine(model or tiny.model(), tokenizer or tiny.tokenizer())


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.5},
        {"num_beams": 2},
        {"num_return_sequences": 2, "do_sample": True},
        {"no_repeat_ngram_size": 2, "min_new_tokens": 8, "bad_words_ids": [[40]]},
        {"stop_strings": ["a"], "max_time": 0.0},
    ],
)
def test_a_checkpoints_generation_config_changes_nothing(settings):
    model = tiny.model()
    truth = engine(model).generate(REQUESTS, SAMPLING)
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    own = copy.deepcopy(model.generation_config)
    found = engine(model).generate(REQUESTS, SAMPLING)
    assert found == truth
    for one, other in zip(found, truth, strict=True):
        assert torch.equal(one.logits, other.logits)
    assert model.generation_config == own, "the user's config is put back"


def test_the_models_own_end_ids_end_an_answer():
    model = tiny.model()
    plain = engine(model).generate(REQUESTS[:1], SAMPLING)[0]
    model.generation_config.eos_token_id = [2, plain.token_ids[2]]
    ended = engine(model).generate(REQUESTS[:1], SAMPLING)[0]
    assert ended.finish == "stop"
    assert ended.token_ids == plain.token_ids[: plain.token_ids.index(plain.token_ids[2]) + 1]


@pytest.mark.parametrize("token", ["<eos>", "<|end|>"], ids=["tokenizer's", "template's"])
def test_the_end_of_a_turn_ends_an_answer_whatever_the_generation_config_names(token):
    model, known = tiny.model(), tiny.tokenizer()
    model.generation_config.eos_token_id = model.config.eos_token_id = 9
    forced = torch.zeros(3, tiny.VOCAB)
    forced[range(3), [40, known.convert_tokens_to_ids(token), 41]] = -1000
    one = TransformersEngine(model, known, tiny.bias(forced), 1.0).generate(REQUESTS[:1], SAMPLING)
    assert (len(one[0].token_ids), one[0].finish) == (2, "stop")


def test_a_pad_token_that_the_model_does_not_know_is_not_used():
    tokenizer = tiny.tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<new pad>"})
    assert tokenizer.pad_token_id == tiny.VOCAB
    assert engine(tokenizer=tokenizer).generate(REQUESTS, SAMPLING) == engine().generate(
        REQUESTS, SAMPLING
    )


def test_a_tokenizer_without_pad_and_end():
    tokenizer, model = tiny.tokenizer(), tiny.model()
    tokenizer.pad_token = tokenizer.eos_token = None
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    found = engine(model, tokenizer).generate(REQUESTS, SAMPLING)
    assert [completion.finish for completion in found] == ["length", "length"]


def test_prompts_that_the_model_cannot_read():
    tokenizer = tiny.tokenizer(template=None)
    with pytest.raises(PromptError, match="no tokens"):
        engine(tokenizer=tokenizer).check(Request.from_text(""), SAMPLING)
    tokenizer.add_tokens(["<tool>"])
    with pytest.raises(PromptError, match="token 320, the model knows 320"):
        engine(tokenizer=tokenizer).check(Request.from_text("<tool>"), SAMPLING)


@pytest.mark.parametrize("value", [3e38, -3e38])
def test_a_bias_beyond_all_numbers_answers_nothing(value):
    broken = tiny.bias(torch.full((3, tiny.VOCAB), value))
    with pytest.raises(NumericalError, match="after the bias"):
        TransformersEngine(tiny.model(), tiny.tokenizer(), broken, 10.0).generate(
            REQUESTS, SAMPLING
        )


def test_a_token_that_the_model_rules_out_is_no_fault():
    model = tiny.model()
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(tiny.VOCAB))
    model.lm_head.bias.data[300] = -torch.inf
    assert engine(model).generate(REQUESTS, SAMPLING)


@pytest.mark.parametrize("strength", [float("nan"), -1.0, "1"])
def test_a_request_for_a_strength_that_is_none(strength):
    one = TransformersEngine(tiny.model(), tiny.tokenizer(), tiny.bias(), 1.0)
    with pytest.raises(UsageError, match="no number from 0"):
        one.generate([Request(REQUESTS[0].messages, strength)], SAMPLING)


def test_a_model_with_broken_weights_answers_nothing():
    model = tiny.model()
    model.model.norm.weight.data[3] = float("nan")
    with pytest.raises(NumericalError, match="NaN"):
        engine(model).generate(REQUESTS, SAMPLING)


def test_a_model_that_takes_padding_for_text_answers_one_by_one(caplog):
    config = RwkvConfig(
        vocab_size=tiny.VOCAB, hidden_size=32, attention_hidden_size=32, num_hidden_layers=2
    )
    torch.manual_seed(0)
    model = RwkvForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    engine = TransformersEngine(model, tiny.tokenizer())
    requests = [Request.from_text(text) for text in ("mill", "bread needs flour and salt", "day")]
    together = engine.generate(requests, Sampling(8))
    assert together == [engine.generate([request], Sampling(8))[0] for request in requests]
    assert caplog.text.count("one by one") == 1


def test_a_batch_that_does_not_fit_is_halved(monkeypatch):
    model = tiny.model()
    truth = engine(model).generate([*REQUESTS, *REQUESTS], SAMPLING)
    generate, sizes = model.generate, []

    def limited(input_ids, **settings):
        sizes.append(len(input_ids))
        if len(input_ids) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return generate(input_ids=input_ids, **settings)

    monkeypatch.setattr(model, "generate", limited)
    monkeypatch.setattr(TransformersEngine, "_one_by_one", False)
    most = 1
    assert engine(model).generate([*REQUESTS, *REQUESTS], SAMPLING) == truth
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    most = 0
    with pytest.raises(ModelError, match="single prompt of"):
        engine(model).generate(REQUESTS, SAMPLING)


class TestStreaming:
    def growing(self, sampling=GREEDY, until=None, **options):
        engine_ = debiased()
        seen = []

        def see(answer):
            seen.append(answer)
            return len(seen) == until

        answer = engine_.stream(engine_.encode(REQUESTS[0]), sampling, see, **options)
        return answer, seen

    @pytest.mark.parametrize("strength", [None, 0.0, 0.5])
    @pytest.mark.parametrize("temperature", [0.0, 0.8])
    def test_it_ends_as_the_answer_that_generate_gives(self, strength, temperature):
        sampling = Sampling(max_new_tokens=8, temperature=temperature, seed=3)
        answer, seen = self.growing(sampling, strength=strength)
        request = Request(REQUESTS[0].messages, strength)
        assert answer == debiased().generate([request], sampling)[0] == seen[-1]
        assert [one.token_ids for one in seen] == [
            answer.token_ids[: count + 1] for count in range(len(answer.token_ids))
        ]

    def test_who_sees_it_may_end_it(self):
        whole, _ = self.growing()
        answer, seen = self.growing(until=3)
        assert len(seen) == 3
        assert answer.token_ids == whole.token_ids[:3]

    def test_a_nucleus_of_nothing_is_greedy_and_of_all_is_none(self):
        drawn = Sampling(max_new_tokens=8, temperature=1.0, seed=1)
        greedy, _ = self.growing()
        assert self.growing(drawn, top_p=1e-9)[0] == greedy != self.growing(drawn)[0]
        assert self.growing(drawn, top_p=1 - 1e-9)[0] == self.growing(drawn)[0]

    def test_a_nucleus_is_that_of_the_tempered_probabilities(self):
        scores = torch.tensor([[2.0, 0.0, -9.0]])  # at temperature 4: .617, .374, .009
        kept = _Nucleus(0.7, temperature=4.0)(torch.zeros(1, 1), scores)
        assert kept.tolist() == [[2.0, 0.0, -torch.inf]]
        assert _Nucleus(0.7, temperature=1.0)(torch.zeros(1, 1), scores)[0, 1] == -torch.inf

    def test_a_text_begins_once(self):
        own, known = engine(), tiny.tokenizer()
        begun = own.encode("<bos>bread")
        assert begun == known("<bos>bread", add_special_tokens=False)["input_ids"]
        assert own.encode("bread") == known("bread")["input_ids"]


def test_an_answer_to_a_prompt_that_begins_a_thought_is_part_of_the_thought():
    opens = tiny.tokenizer(tiny.TEMPLATE.replace("<|assistant|>", "<|assistant|><think>\n"))
    assert [one.in_thought for one in engine(tokenizer=opens).generate(REQUESTS, SAMPLING)] == [
        True, True
    ]  # fmt: skip
    assert not any(one.in_thought for one in engine().generate(REQUESTS, SAMPLING))


class TestABiasBehindAMarker:
    """The answer says whether the marker came; else a plain answer passes for a debiased one."""

    def began(self, marker, strength=1.0, tokens=8):
        bias = tiny.bias(anchor=marker, anchor_ids=(5,))
        made = TransformersEngine(tiny.model(), tiny.tokenizer(), bias, strength)
        return made.generate(REQUESTS[:1], Sampling(tokens))[0].bias_began

    def test_that_never_comes(self):
        assert not self.began("</think>")

    def test_that_comes(self):
        plain = engine().generate(REQUESTS[:1], GREEDY)[0]
        first = tiny.tokenizer().decode(plain.token_ids[:1])
        assert self.began(first)
        assert not self.began(first, tokens=1), "nothing was predicted behind it"

    def test_that_is_not_looked_for_where_nothing_is_subtracted(self):
        assert self.began("</think>", strength=0.0)
