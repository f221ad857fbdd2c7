"""``fit_condition`` on tiny models: what it reads, what it gives, and what it refuses."""

import json
from functools import cache

import pytest
import torch

from tests import tiny
from tsdi.bias import lm_head as head
from tsdi.bias.refusal_log_odds import Phrases, phrase_ids, refusal_log_odds
from tsdi.condition import Fitting, Labelled, fit_condition
from tsdi.condition.prompts import read_labelled
from tsdi.errors import ModelError, NumericalError, PromptError, UsageError
from tsdi.models.chat import ChatFormat, template_sha256, tokenizer_sha256

PHRASES = Phrases(("the river", "old"), ("bread needs", "mill", "water"))
SETTINGS = Fitting(tokens=200)
TOKENIZER = tiny.tokenizer()


def labelled(number=48, planted=True, seed=0):
    """Random prompts; if planted, their last token says of which kind they are."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for n in range(number):
        length = int(torch.randint(4, 12, (), generator=generator))
        ids = torch.randint(7, tiny.VOCAB, (length,), generator=generator).tolist()
        if planted:
            ids[-1] = 40 if n % 2 == 0 else 60
        made.append(Labelled(ids, n % 2 == 0, f"O{n % 3}" if n % 2 == 0 else ""))
    return made


@cache
def fitted(planted=True):
    return fit_condition(
        tiny.model(), TOKENIZER, labelled(planted=planted), SETTINGS, phrases=PHRASES, batch_size=7
    )


def last_logits(model, prompts):
    return torch.stack([tiny.logits(model, torch.tensor([p.ids]), 1)[0, 0] for p in prompts])


class TestWhatItGives:
    def test_it_reads_harm_off_the_logits_of_prompts_it_never_saw(self):
        fresh = labelled(40, seed=1)
        score = fitted().score(last_logits(tiny.model(), fresh).float())
        harmful = torch.tensor([prompt.harmful for prompt in fresh])
        assert float(((score > 0) == harmful).double().mean()) > 0.9

    def test_it_belongs_to_the_tokenizer_and_the_template(self):
        assert fitted().tokenizer_sha256 == tokenizer_sha256(TOKENIZER)
        assert fitted().template_sha256 == template_sha256(TOKENIZER, ChatFormat())
        assert len(fitted().tokens) == 200

    def test_its_evidence_is_json_with_the_case(self):
        evidence = json.loads(json.dumps(fitted().evidence, allow_nan=False))
        assert evidence == fitted().evidence
        assert evidence["condition"]["value"] > 0.9
        assert evidence["case"]["name"] == "condition"
        assert [one["labels"] for one in evidence["categories"]] == [8, 8, 8, 24]

    def test_noise_is_no_case_for_it(self):
        evidence = fitted(planted=False).evidence
        assert evidence["sparse"]["low"] < 0.5
        assert evidence["case"]["name"] == "threshold"
        assert "use a constant strength" in evidence["case"]["why"]

    def test_strengths_are_those_that_were_asked_for(self):
        asked = Fitting(16, -1.0, 2.0, 0.5)
        made = fit_condition(tiny.model(), TOKENIZER, labelled(), asked, phrases=PHRASES)
        assert (made.low, made.high, made.width, len(made.tokens)) == (-1.0, 2.0, 0.5, 16)


class TestWhatItReads:
    @pytest.mark.parametrize("kind", ["llama", "gpt2", "granite", "mamba"])
    def test_every_prompt_is_read_as_alone(self, kind):
        more = {"state_size": 4, "num_hidden_layers": 2} if kind == "mamba" else {}
        model, prompts = tiny.model(kind, **more), labelled(18)
        seen = []
        found = read_labelled(
            model, TOKENIZER, prompts, PHRASES, batch_size=5, progress=seen.append
        )
        refusing, complying = (
            phrase_ids(TOKENIZER, one) for one in (PHRASES.refusing, PHRASES.complying)
        )
        for n, prompt in enumerate(prompts):
            alone = head.head_inputs(model, torch.tensor([prompt.ids]), 1)[0, 0].double()
            torch.testing.assert_close(found.inputs[n], alone, rtol=1e-3, atol=1e-4)
            (odds,) = refusal_log_odds(model, prompt.ids, refusing, complying, [None])
            assert float(found.log_odds[n]) == pytest.approx(odds, abs=1e-3)
        assert sum(seen) == 18
        assert found.harmful.tolist() == [prompt.harmful for prompt in prompts]
        assert list(found.categories) == [prompt.category for prompt in prompts]

    def test_copies_are_of_one_group_and_named_groups_are_kept(self):
        prompts = labelled(20)
        prompts += [prompts[0], Labelled([9, 8, 7], True, group="suite"),
                    Labelled([9, 8], True, group="suite")]  # fmt: skip
        groups = read_labelled(tiny.model(), TOKENIZER, prompts, PHRASES, batch_size=8).groups
        assert groups[0] == groups[20]
        assert groups[21] == groups[22]
        assert len(set(groups)) == 21

    def test_copies_under_other_groups_are_of_one_all_the_same(self):
        ids = labelled(20)[0].ids
        named = [Labelled(ids, True, group=one) for one in ("first", "second")]
        prompts = [*labelled(20)[1:], *named, Labelled([9, 8], True, group="second")]
        groups = read_labelled(tiny.model(), TOKENIZER, prompts, PHRASES, batch_size=8).groups
        assert len(set(groups[-3:])) == 1


class TestRefused:
    def refused(self, prompts, match, kind=PromptError, model=None):
        with pytest.raises(kind, match=match) as caught:
            fit_condition(model or tiny.model(), TOKENIZER, prompts, SETTINGS, phrases=PHRASES)
        assert "\n" not in str(caught.value)

    def test_too_few_labels(self):
        self.refused(labelled(15), "at least 8 harmless prompts, not 7")

    def test_one_kind_alone(self):
        harmful = [prompt for prompt in labelled() if prompt.harmful]
        self.refused(harmful, "at least 8 harmless prompts, not 0")
        self.refused([], "at least 8 harmful prompts, not 0")

    def test_one_prompt_of_both_kinds(self):
        both = [*labelled(), Labelled(tuple(labelled()[1].ids), True)]
        self.refused(both, "1 prompts are both harmful and harmless, the first is number 2")

    def test_what_is_no_labelled_prompt(self):
        for ids in ([], "how", [3, -1], [3, 2.0], [True]):
            with pytest.raises(UsageError, match="has token ids"):
                Labelled(ids, True)
        for kind in ("harmful", None, 1):
            with pytest.raises(UsageError, match="True or False"):
                Labelled([3, 4], kind)
        self.refused([*labelled(), "how"], "no `Labelled`", UsageError)
        self.refused([*labelled(), Labelled([9, tiny.VOCAB], True)], "prompt 49 has token")

    def test_a_head_that_is_zero(self):
        model = tiny.model()
        with torch.no_grad():
            model.lm_head.weight.zero_()
        self.refused(labelled(), "do not span", NumericalError, model)

    def test_nan(self):
        model = tiny.model()
        with torch.no_grad():
            model.model.norm.weight[3] = torch.nan
        self.refused(labelled(), "NaN", NumericalError, model)

    def test_logits_that_are_not_linear(self):
        self.refused(labelled(), "not linear", ModelError, tiny.model("gemma2"))

    def test_a_prompt_beyond_the_context(self):
        long = [*labelled(), Labelled([9] * 128, True)]
        self.refused(long, "does not fit the model's context of 128")

    @pytest.mark.parametrize(
        "changes",
        [
            {"tokens": 0},
            {"tokens": True},
            {"low": 2.0},
            {"width": 0.0},
            {"high": 1e9},
            {"low": "0"},
            {"width": True},
        ],
        ids=str,
    )
    def test_settings_that_are_none(self, changes):
        with pytest.raises(UsageError):
            Fitting(**changes)

    def test_a_batch_of_none(self):
        with pytest.raises(UsageError, match="batch_size"):
            fit_condition(tiny.model(), TOKENIZER, labelled(), SETTINGS, batch_size=0)
