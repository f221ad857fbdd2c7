"""The vLLM processor: V1 against updates of a batch, V2 against faked states; vLLM is needed."""

from types import SimpleNamespace

import pytest
import torch

from tests import tiny
from tests.engines.vllm_stubs import Buffer, context, importing, params, update
from tsdi.bias import SafetyBias
from tsdi.bias.knobs import Knobs, Strengths
from tsdi.engines.vllm_arguments import Asked
from tsdi.errors import MismatchError, UsageError

STEPS, ROWS = 3, 8


@pytest.fixture(scope="module")
def module():
    with importing("tsdi.engines.vllm_plugin") as found:
        yield found


@pytest.fixture(scope="module")
def bias(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vllm")
    values = torch.randn(STEPS, tiny.VOCAB, generator=torch.Generator().manual_seed(1))
    made = tiny.bias(values, strength=2.0)
    made.save_pretrained(folder / "bias")
    tiny.tokenizer().save_pretrained(folder / "model")
    return made, folder


def config(folder, *, width=tiny.VOCAB, speculative=None, tsdi=None):
    model = SimpleNamespace(
        get_vocab_size=lambda: width,
        tokenizer=str(folder / "model"),
        skip_tokenizer_init=False,
        trust_remote_code=False,
    )
    return SimpleNamespace(
        model_config=model,
        speculative_config=speculative,
        additional_config={"tsdi": {"bias": str(folder / "bias")} if tsdi is None else tsdi},
    )


def swap():
    try:
        from vllm.v1.sample.logits_processor import MoveDirectionality
    except ImportError:
        return "swap"
    return MoveDirectionality.SWAP


def v1(module, folder, **options):
    return module.SafetyDebias(config(folder, **options), torch.device("cpu"), False)


def plain():
    return torch.randn(ROWS, tiny.VOCAB, generator=torch.Generator().manual_seed(2))


class TestV1:
    def test_each_row_has_its_own_step_and_strength(self, module, bias):
        made, folder = bias
        rule = v1(module, folder)
        answers = {0: [], 1: [5], 2: [5, 6, 7], 3: [], 4: [1, 2]}
        asked = {0: params(), 1: params(tsdi_strength=0.5), 2: params(), 3: params(tsdi_strength=0)}
        added = [(row, asked.get(row, params()), [], answer) for row, answer in answers.items()]
        rule.update_state(update(added))
        expected = plain()
        expected[0] -= 2.0 * made.values[0]  # the bias' own strength
        expected[1] -= 0.5 * made.values[1]
        expected[4] -= 2.0 * made.values[2]
        torch.testing.assert_close(rule.apply(plain()), expected)

    def test_answers_are_live_and_moved_rows_keep_theirs(self, module, bias):
        made, folder = bias
        rule = v1(module, folder)
        one, other = [], [3]
        rule.update_state(update([(0, params(), [], one), (1, params(tsdi_strength=1), [], other)]))
        rule.apply(plain())
        one.append(9)
        rule.update_state(update(moved=[(0, 1, swap())]))
        expected = plain()
        expected[1] -= 2.0 * made.values[1]
        expected[0] -= 1.0 * made.values[1]
        torch.testing.assert_close(rule.apply(plain()), expected)

    def test_a_prompt_that_is_read_in_parts_stays_at_its_first_step(self, module, bias):
        made, folder = bias
        rule = v1(module, folder)
        rule.update_state(update([(0, params(), [], [])]))
        for _ in range(5):
            expected = plain()
            expected[0] -= 2.0 * made.values[0]
            torch.testing.assert_close(rule.apply(plain()), expected)

    def test_removed_and_replaced_rows_leave_no_trace(self, module, bias):
        _, folder = bias
        rule = v1(module, folder)
        rule.update_state(update([(0, params(), [], []), (1, params(), [], [])]))
        rule.update_state(update([(1, params(tsdi_strength=0), [], [])], removed=[0]))
        torch.testing.assert_close(rule.apply(plain()), plain())

    def test_rows_beyond_the_last_step_cost_nothing(self, module, bias):
        _, folder = bias
        rule = v1(module, folder)
        answer = [1, 2]
        rule.update_state(update([(0, params(), [], answer)]))
        answer.append(3)
        logits = plain()
        assert rule.apply(logits) is logits
        assert rule._young == {}

    def test_padding_columns_stay(self, module, bias):
        _, folder = bias
        rule = v1(module, folder, width=tiny.VOCAB + 8)
        rule.update_state(update([(0, params(), [], [])]))
        found = rule.apply(torch.zeros(ROWS, tiny.VOCAB + 8))
        assert found[:, tiny.VOCAB :].abs().max() == 0
        assert found[0].abs().max() > 0

    def test_greedy_choices_may_change(self, module, bias):
        assert v1(module, bias[1]).is_argmax_invariant() is False


def v2(module, folder, prompt_lengths, speculative=None):
    states = SimpleNamespace(
        device=torch.device("cpu"), max_num_reqs=ROWS, prompt_len=Buffer(prompt_lengths)
    )
    return module.SafetyDebias(config(folder, speculative=speculative), states)


class TestV2:
    def test_each_row_has_its_own_step_and_strength(self, module, bias):
        made, folder = bias
        rule = v2(module, folder, [4, 6, 2, 9, 0, 0, 0, 0])
        assert rule.add_request(0, params())
        assert rule.add_request(1, params(tsdi_strength=0.5))
        assert not rule.add_request(2, params(tsdi_strength=0))
        assert rule.add_request(3, params())
        rule.apply_staged_writes()
        # steps: slot 1 is at its second token, 0 at its first, 3 beyond the last, 2 is off
        found = rule.apply(plain()[:4], context([1, 0, 3, 2], [6, 3, 20, 1]))
        expected = plain()[:4]
        expected[0] -= 0.5 * made.values[1]
        expected[1] -= 2.0 * made.values[0]
        torch.testing.assert_close(found, expected)

    def test_rows_of_drafts_have_their_own_steps(self, module, bias):
        made, folder = bias
        rule = v2(module, folder, [4] * ROWS, speculative=object())
        rule.add_request(5, params())
        rule.apply_staged_writes()
        found = rule.apply(plain()[:4], context([5] * 4, [4, 5, 6, 7]))
        expected = plain()[:4]
        expected[0] -= 2.0 * made.values[1]
        expected[1] -= 2.0 * made.values[2]
        torch.testing.assert_close(found, expected)

    def test_prompts_that_are_read_in_parts_are_left_alone_until_their_end(self, module, bias):
        _, folder = bias
        rule = v2(module, folder, [40] * ROWS)
        rule.add_request(0, params())
        rule.apply_staged_writes()
        torch.testing.assert_close(rule.apply(plain()[:1], context([0], [15])), plain()[:1])

    def test_a_slot_that_is_used_again_forgets_its_strength(self, module, bias):
        _, folder = bias
        rule = v2(module, folder, [4] * ROWS)
        rule.add_request(0, params())
        rule.apply_staged_writes()
        rule.add_request(0, params(tsdi_strength=0.0))
        rule.apply_staged_writes()
        torch.testing.assert_close(rule.apply(plain()[:1], context([0], [3])), plain()[:1])

    def test_nothing_is_computed_once_all_are_beyond_the_last_step(self, module, bias):
        _, folder = bias
        rule = v2(module, folder, [4] * ROWS)
        rule.add_request(0, params())
        rule.apply_staged_writes()
        rule._table = None
        logits = plain()[:1]
        assert rule.apply(logits, context([0], [4 + STEPS - 1])) is logits


@pytest.fixture(scope="module")
def conditioned(tmp_path_factory):
    """A bias whose strength depends on the prompt."""
    folder = tmp_path_factory.mktemp("vllm-condition")
    values = torch.randn(STEPS, tiny.VOCAB, generator=torch.Generator().manual_seed(1))
    made = tiny.bias(values).with_condition(tiny.condition())
    made.save_pretrained(folder / "bias")
    tiny.tokenizer().save_pretrained(folder / "model")
    return made, folder


class TestAConditionInV1:
    def strengths(self, made, logits=None):
        return made.condition.strength(plain() if logits is None else logits).tolist()

    def test_it_is_read_at_step_0_and_held(self, module, conditioned):
        made, folder = conditioned
        rule, answers = v1(module, folder), [[], []]
        asked = [params(), params(tsdi_strength=0.5)]
        rule.update_state(update([(row, asked[row], [], answers[row]) for row in (0, 1)]))
        strengths = [self.strengths(made)[0], 0.5]
        logits = plain()
        for step in range(STEPS):
            expected = logits.clone()
            for row, strength in enumerate(strengths):
                expected[row] -= strength * made.values[step]
            torch.testing.assert_close(rule.apply(logits.clone()), expected)
            logits = plain().flip(0)  # others at the next steps
            for answer in answers:
                answer.append(7)

    def test_of_a_prompt_that_is_read_in_parts_the_end_counts(self, module, conditioned):
        made, folder = conditioned
        rule, answer = v1(module, folder), []
        rule.update_state(update([(0, params(), [], answer)]))
        rule.apply(plain().flip(0))  # of a part
        rule.apply(plain())
        answer.append(7)
        expected = plain()
        expected[0] -= self.strengths(made)[0] * made.values[1]
        torch.testing.assert_close(rule.apply(plain()), expected)

    def test_it_survives_preemption_in_another_row(self, module, conditioned):
        made, folder = conditioned
        rule, answers = v1(module, folder), [[], []]
        asked = [params(), params(other=1)]
        rule.update_state(update([(row, asked[row], [], answers[row]) for row in (0, 1)]))
        strengths = self.strengths(made)
        rule.apply(plain())
        for answer in answers:
            answer.append(7)
        rule.update_state(update(removed=[0, 1]))
        torch.testing.assert_close(rule.apply(plain()), plain())
        resumed = list(answers[1])  # as asynchronous scheduling makes it anew
        rule.update_state(update([(3, asked[1], [], resumed), (0, asked[0], [], answers[0])]))
        expected = plain()
        expected[0] -= strengths[0] * made.values[1]
        expected[3] -= strengths[1] * made.values[1]
        torch.testing.assert_close(rule.apply(plain()), expected)
        assert asked[1].extra_args["other"] == 1

    def test_requests_that_were_preempted_before_their_first_token_are_read_then(
        self, module, conditioned
    ):
        made, folder = conditioned
        rule, asked = v1(module, folder), params()
        rule.update_state(update([(0, asked, [], [])]))
        rule.apply(plain().flip(0))
        rule.update_state(update([(2, asked, [], [])], removed=[0]))
        expected = plain()
        expected[2] -= self.strengths(made)[2] * made.values[0]
        torch.testing.assert_close(rule.apply(plain()), expected)

    def test_moved_rows_keep_theirs(self, module, conditioned):
        made, folder = conditioned
        rule, answers = v1(module, folder), [[], []]
        rule.update_state(update([(row, params(), [], answers[row]) for row in (0, 1)]))
        rule.apply(plain())
        for answer in answers:
            answer.append(7)
        rule.update_state(update(moved=[(0, 1, swap())]))
        expected = plain()
        for row, other in ((0, 1), (1, 0)):
            expected[row] -= self.strengths(made)[other] * made.values[1]
        torch.testing.assert_close(rule.apply(plain()), expected)

    def test_what_another_process_decoded_first_gets_the_strength_of_harmful_prompts(
        self, module, conditioned
    ):
        made, folder = conditioned
        rule = v1(module, folder)
        rule.update_state(update([(0, params(), [], [7])]))
        expected = plain()
        expected[0] -= made.condition.low * made.values[1]
        torch.testing.assert_close(rule.apply(plain()), expected)

    def test_no_client_can_send_what_is_kept(self, module, conditioned):
        made, folder = conditioned
        rule = v1(module, folder)
        rule.update_state(update([(0, params(_tsdi_kept=-99.0), [], [7])]))
        expected = plain()
        expected[0] -= made.condition.low * made.values[1]
        torch.testing.assert_close(rule.apply(plain()), expected)

    def test_a_strength_for_the_server_wins_over_it(self, module, conditioned):
        made, folder = conditioned
        named = {"bias": str(folder / "bias"), "strength": 0.25}
        rule = v1(module, folder, tsdi=named)
        rule.update_state(update([(0, params(), [], [])]))
        expected = plain()
        expected[0] -= 0.25 * made.values[0]
        torch.testing.assert_close(rule.apply(plain()), expected)

    def test_five_hundred_at_once(self, module, conditioned):
        made, folder = conditioned
        rule = v1(module, folder)
        rule.update_state(update([(row, params(), [], []) for row in range(500)]))
        logits = torch.randn(500, tiny.VOCAB, generator=torch.Generator().manual_seed(3))
        strengths = made.condition.strength(logits)[:, None]
        torch.testing.assert_close(rule.apply(logits.clone()), logits - strengths * made.values[0])


class TestAConditionInV2:
    def test_it_is_read_at_step_0_and_held(self, module, conditioned):
        made, folder = conditioned
        rule = v2(module, folder, [4] * ROWS)
        assert rule.add_request(2, params())
        assert rule.add_request(5, params(tsdi_strength=0.5))
        rule.apply_staged_writes()
        strength = float(made.condition.strength(plain()[:1]))
        for step in range(STEPS):
            logits = plain()[:2] if step == 0 else plain()[2:4]
            expected = logits.clone()
            expected[0] -= strength * made.values[step]
            expected[1] -= 0.5 * made.values[step]
            found = rule.apply(logits.clone(), context([2, 5], [3 + step] * 2))
            torch.testing.assert_close(found, expected)

    def test_rows_of_drafts_have_the_strength_of_their_request(self, module, conditioned):
        made, folder = conditioned
        rule = v2(module, folder, [4] * ROWS, speculative=object())
        rule.add_request(5, params())
        rule.apply_staged_writes()
        found = rule.apply(plain()[:3], context([5] * 3, [3, 4, 5]))
        strength = float(made.condition.strength(plain()[:1]))
        torch.testing.assert_close(found, plain()[:3] - strength * made.values)

    def test_a_part_of_a_prompt_is_not_read(self, module, conditioned):
        made, folder = conditioned
        rule = v2(module, folder, [40] * ROWS)
        rule.add_request(0, params())
        rule.apply_staged_writes()
        torch.testing.assert_close(rule.apply(plain()[1:2], context([0], [15])), plain()[1:2])
        found = rule.apply(plain()[:1], context([0], [39]))
        strength = float(made.condition.strength(plain()[:1]))
        torch.testing.assert_close(found, plain()[:1] - strength * made.values[:1])

    def test_it_survives_preemption_in_another_slot(self, module, conditioned):
        made, folder = conditioned
        rule, asked = v2(module, folder, [4] * ROWS), params()
        rule.add_request(0, asked)
        rule.apply_staged_writes()
        strength = float(made.condition.strength(plain()[:1]))
        rule.apply(plain()[:1], context([0], [3]))
        rule.add_request(0, params(tsdi_strength=0.5))  # the slot is another's now
        rule.add_request(6, asked)
        rule.apply_staged_writes()
        found = rule.apply(plain()[:2], context([0, 6], [4, 4]))
        expected = plain()[:2]
        expected[0] -= 0.5 * made.values[1]
        expected[1] -= strength * made.values[1]
        torch.testing.assert_close(found, expected)


def decayed(made, strength, steps, decay):
    """The shift of every step at a setting."""
    factors = [strength * decay**step * (step < steps) for step in range(STEPS)]
    return torch.tensor(factors)[:, None] * made.values


class TestSettingsOfRequests:
    """Each request has its own strength, low, high, width, steps and decay, in one batch."""

    ASKED = (
        {},
        {"tsdi_strength": 1.5, "tsdi_steps": 2},
        {"tsdi_decay": 0.5},
        {"tsdi_steps": 99},
    )

    def expected(self, made):
        settings = (2.0, STEPS, 1.0), (1.5, 2, 1.0), (2.0, STEPS, 0.5), (2.0, STEPS, 1.0)
        return torch.stack([decayed(made, *one) for one in settings])  # [requests, steps, vocab]

    def test_in_v1(self, module, bias):
        made, folder = bias
        rule, answers = v1(module, folder), [[] for _ in self.ASKED]
        added = [(row, params(**one), [], answers[row]) for row, one in enumerate(self.ASKED)]
        rule.update_state(update(added))
        for step in range(STEPS):
            logits = plain()
            logits[:4] -= self.expected(made)[:, step]
            torch.testing.assert_close(rule.apply(plain()), logits)
            for answer in answers:
                answer.append(7)
        assert rule.apply(plain()).equal(plain())

    def test_in_v2(self, module, bias):
        made, folder = bias
        rule = v2(module, folder, [4] * ROWS)
        for slot, one in enumerate(self.ASKED):
            rule.add_request(slot, params(**one))
        rule.apply_staged_writes()
        for step in range(STEPS):
            found = rule.apply(plain()[:4], context([0, 1, 2, 3], [3 + step] * 4))
            torch.testing.assert_close(found, plain()[:4] - self.expected(made)[:, step])

    def strengths(self, made):
        return made.condition.strength_between(plain()[:3], *LEVELS)

    def test_low_high_and_width_in_v1(self, module, conditioned):
        made, folder = conditioned
        rule, answers = v1(module, folder), [[], [], []]
        added = [(row, params(**BY_PROMPT), [], answers[row]) for row in range(3)]
        rule.update_state(update(added))
        for step in range(STEPS):
            expected = plain()
            expected[:3] -= self.strengths(made)[:, None] * made.values[step]
            torch.testing.assert_close(rule.apply(plain()), expected)
            for answer in answers:
                answer.append(7)

    def test_low_high_and_width_in_v2(self, module, conditioned):
        made, folder = conditioned
        rule = v2(module, folder, [4] * ROWS)
        for slot in range(3):
            rule.add_request(slot, params(**BY_PROMPT))
        rule.apply_staged_writes()
        for step in range(STEPS):
            found = rule.apply(plain()[:3], context([0, 1, 2], [3 + step] * 3))
            shift = self.strengths(made)[:, None] * made.values[step]
            torch.testing.assert_close(found, plain()[:3] - shift)

    def test_the_condition_is_there_although_the_server_has_one_strength(self, module, conditioned):
        made, folder = conditioned
        rule = v1(module, folder, tsdi={"bias": str(folder / "bias"), "strength": 0.25})
        rule.update_state(update([(0, params(**BY_PROMPT), [], []), (1, params(), [], [])]))
        expected = plain()
        expected[0] -= self.strengths(made)[0] * made.values[0]
        expected[1] -= 0.25 * made.values[0]
        torch.testing.assert_close(rule.apply(plain()), expected)

    def test_without_a_condition_low_counts_and_that_is_said(self, module, bias, caplog):
        made, folder = bias
        rule = v1(module, folder)
        rule.update_state(update([(0, params(**BY_PROMPT), [], [])]))
        expected = plain()
        expected[0] += 0.5 * made.values[0]
        torch.testing.assert_close(rule.apply(plain()), expected)
        assert "no condition" in caplog.text

    def test_of_first_order_without_the_slope(self, module, tmp_path):
        made = tiny.bias(strength=1.0)
        slope = tiny.slope(tiny.VOCAB, made.steps)
        sloped = SafetyBias(made.values, made.standard_error, made.info, slope=slope)
        sloped.save_pretrained(tmp_path / "bias")
        tiny.tokenizer().save_pretrained(tmp_path / "model")
        rule = v1(module, tmp_path)
        rule.update_state(update([(0, params(tsdi_order=0), [], []), (1, params(), [], [])]))
        expected = plain()
        expected[0] -= made.values[0]
        expected[1] -= made.values[0] + slope.shift(plain()[1:2], 0)[0]
        torch.testing.assert_close(rule.apply(plain()), expected)


LEVELS = -0.5, 2.0, 0.25, -0.5
BY_PROMPT = dict(
    zip(("tsdi_low", "tsdi_high", "tsdi_width", "tsdi_threshold"), LEVELS, strict=True)
)


class TestRequests:
    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ({"tsdi_low": 0.5}, "go together"),
            ({"tsdi_low": 1, "tsdi_high": 0.5}, "above"),
            ({"tsdi_strength": 1, "tsdi_width": 1}, "Either"),
            ({"tsdi_strength": 1, "tsdi_threshold": 0}, "Either"),
            ({"tsdi_steps": 0}, "tsdi_steps is a whole number from 1"),
            ({"tsdi_steps": 1.5}, "whole number"),
            ({"tsdi_steps": True}, "whole number"),
            ({"tsdi_decay": 1.5}, "from 0 to 1"),
            ({"tsdi_decay": float("nan")}, "from 0 to 1"),
            ({"tsdi_order": 2}, "from 0 to 1"),
            ({"tsdi_width": 0}, "tsdi_width is a number"),
            ({"tsdi_high": "2", "tsdi_low": 0}, "tsdi_high is a number"),
            ({"TSDI_strength": 1}, "no argument"),
        ],
    )
    def test_a_setting_that_is_none_is_refused(self, module, asked, said):
        with pytest.raises(ValueError, match=said):
            module.SafetyDebias.validate_params(params(**asked))

    def test_a_strength_takes_the_place_of_all_that_a_condition_would_read(self):
        by = Asked.of(Knobs(None, 3, 0.5, Strengths(-0.5, 2.0, 0.25, -1.0), order=1))
        assert by.by_prompt
        made = by.at_strength(0.75)
        assert made == Asked.read(made.arguments()) == Asked(0.75, steps=3, decay=0.5, order=1)

    def test_whole_settings_are_let_through(self, module):
        for asked in ({"tsdi_steps": 3.0, "tsdi_decay": 1, "tsdi_order": 0}, BY_PROMPT):
            module.SafetyDebias.validate_params(params(**asked))

    @pytest.mark.parametrize("value", [-0.1, 1e39, float("nan"), float("inf"), True, "much", [1]])
    def test_a_strength_that_is_none_is_refused(self, module, value):
        with pytest.raises(ValueError, match="from 0"):
            module.SafetyDebias.validate_params(params(tsdi_strength=value))

    def test_a_misspelt_argument_is_refused(self, module):
        with pytest.raises(ValueError, match="no argument 'tsdi_strenght'"):
            module.SafetyDebias.validate_params(params(tsdi_strenght=1))

    def test_other_peoples_arguments_are_not_ours(self, module):
        module.SafetyDebias.validate_params(params(other=1))
        module.SafetyDebias.validate_params(SimpleNamespace(extra_args=None))


class TestStartUp:
    def test_the_environment_names_the_bias_too(self, module, bias, monkeypatch):
        made, folder = bias
        monkeypatch.setenv("TSDI_BIAS", str(folder / "bias"))
        monkeypatch.setenv("TSDI_STRENGTH", "0.25")
        rule = v1(module, folder, tsdi={})
        rule.update_state(update([(0, params(), [], [])]))
        expected = plain()
        expected[0] -= 0.25 * made.values[0]
        torch.testing.assert_close(rule.apply(plain()), expected)

    @pytest.mark.parametrize(
        ("tsdi", "said"),
        [({}, "no bias is named"), ({"bais": "x"}, "unknown key 'bais'")],
    )
    def test_a_missing_bias_is_told(self, module, bias, tsdi, said, monkeypatch):
        monkeypatch.delenv("TSDI_BIAS", raising=False)
        with pytest.raises(UsageError, match=said):
            v1(module, bias[1], tsdi=tsdi)

    @pytest.mark.parametrize("strength", ["much", -1, "nan"])
    def test_a_wrong_strength_is_told(self, module, bias, strength):
        _, folder = bias
        with pytest.raises(UsageError, match=r"from 0 \(off\) to 100"):
            v1(module, folder, tsdi={"bias": str(folder / "bias"), "strength": strength})

    def test_speculative_decoding_is_refused_where_it_would_drop_the_bias(self, module, bias):
        with pytest.raises(UsageError, match="speculative decoding would drop"):
            v1(module, bias[1], speculative=object())

    def test_another_vocabulary_is_refused(self, module, bias):
        with pytest.raises(MismatchError, match="320 tokens, the model has 300"):
            v1(module, bias[1], width=300)

    def test_another_tokenizer_is_refused(self, module, bias, tmp_path):
        tiny.tokenizer(template="{{ messages[0]['content'] }}").save_pretrained(tmp_path / "model")
        made = config(bias[1])
        made.model_config.tokenizer = str(tmp_path / "model")
        with pytest.raises(MismatchError, match="chat template"):
            module.SafetyDebias(made, torch.device("cpu"), False)

    def test_an_anchored_bias_is_refused(self, module, tmp_path):
        tiny.bias(anchor="</think>", anchor_ids=(9,), strength=1.0).save_pretrained(
            tmp_path / "bias"
        )
        tiny.tokenizer().save_pretrained(tmp_path / "model")
        with pytest.raises(UsageError, match="</think>"):
            v1(module, tmp_path)
