"""The first-order term: planted maps come back, sums are those of a slow regression on logits."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import tiny
from tsdi import Estimation, FirstOrder, SafetyBias, estimate_bias, fit_slope
from tsdi.bias.first_order import LabelledIds
from tsdi.bias.first_order import rows as paired_rows
from tsdi.bias.first_order.labelled import LEAST_PROMPTS
from tsdi.bias.first_order.rows import Rows, labelled_rows
from tsdi.bias.first_order.slope import with_slope
from tsdi.decoding.rule import subtract_bias
from tsdi.errors import FormatError, ModelError, PromptError, UsageError
from tsdi.models.sides import as_side

STEPS = 3
SETTINGS = Estimation(prompts=128, steps=STEPS, prompt_tokens=6, pool="tokenizer", groups=4)


def tilted(base, rank=2, scale=0.4):
    """A copy whose head adds a map of low rank to its logits: a shift that is linear in them."""
    model = copy.deepcopy(base)
    weight = model.get_output_embeddings().weight
    generator = torch.Generator().manual_seed(3)
    left = torch.randn(len(weight), rank, generator=generator)
    right = torch.randn(rank, weight.shape[1], generator=generator)
    model.get_output_embeddings().weight = torch.nn.Parameter(weight + scale * left @ right)
    return model


def first_order(aligned, reference):
    tokenizer = tiny.tokenizer()
    bias = estimate_bias(aligned, reference, tokenizer, SETTINGS)
    return fit_slope(bias, aligned, reference, tokenizer, SETTINGS.random_prompts(tokenizer))


@pytest.fixture(scope="module")
def reference():
    return tiny.model("llama", tie_word_embeddings=False)


@pytest.fixture(scope="module")
def aligned(reference):
    return tilted(reference)


@pytest.fixture(scope="module")
def sloped(aligned, reference):
    return first_order(aligned, reference)


def logits(model, seed=5, rows=8):
    ids = tiny.ids(rows, 12, seed)
    return tiny.logits(model, ids, STEPS)


def left(bias, aligned, reference):
    """Root mean square of what of the shift is left, over that of the shift."""
    before, after = logits(aligned).float(), logits(reference).float()
    found = torch.stack([subtract_bias(before[:, i], i, bias) for i in range(STEPS)], 1)
    rest, shift = ((x - x.mean(-1, keepdim=True)) for x in (found - after, before - after))
    return float(rest.norm() / shift.norm())


class TestPlantedMaps:
    def test_a_linear_shift_is_taken_away_on_other_prompts(self, sloped, aligned, reference):
        assert left(sloped.values, aligned, reference) > 0.5  # the constant does not do it
        assert left(sloped.shift, aligned, reference) < 0.1

    def test_the_evidence_says_so(self, sloped):
        found = sloped.slope.evidence
        assert found["slope"] > 0.98
        assert found["gain"]["low"] > 0
        assert found["rank"] == 2
        assert (found["rows"], found["harmful"]) == (128, 0)

    def test_a_constant_shift_needs_no_slope(self, reference):
        moved = copy.deepcopy(reference)
        moved.lm_head.bias = torch.nn.Parameter(torch.linspace(-1, 1, tiny.VOCAB))
        found = first_order(moved, reference)
        assert found.slope.evidence["constant"] > 0.999
        assert found.slope.write.abs().max() < 1e-3
        assert tiny.error(found.values, torch.linspace(-1, 1, tiny.VOCAB).expand(STEPS, -1)) < 1e-4


def test_the_sums_are_those_of_a_regression_on_ordinary_logits(reference):
    """In float64, without a single sum of head inputs: every row, every token."""
    aligned = tiny.moved(reference)
    bias = first_order(aligned, reference)
    prompts = SETTINGS.random_prompts(tiny.tokenizer())
    ids = prompts.ids(0, SETTINGS.prompts)
    before, after = (tiny.logits(m, ids, STEPS).double() for m in (reference, aligned))
    shift = after - before
    shift -= shift.mean(-1, keepdim=True)
    mean = shift.mean(0)
    assert tiny.error(bias.values, mean) < 1e-4
    # u is what explains the logits: any of its bases gives the same ridge only up to the metric,
    # so u itself is found again from the logits by the head's weights.
    weight = aligned.get_output_embeddings().weight.detach().double()
    u = after @ torch.linalg.pinv(weight).T
    rows = (u - u.mean(0)).flatten(0, 1)
    variance = (rows.square().sum() / rows.numel()).item()
    ridge = bias.slope.evidence["ridge"] * variance * len(rows)
    normal = rows.T @ rows + ridge * torch.eye(rows.shape[1])
    slow = np.linalg.solve(normal.numpy(), (rows.T @ (shift - mean).flatten(0, 1)).numpy())
    expected = rows @ torch.from_numpy(slow)
    found = torch.cat(
        [bias.slope.shift(after[:, i].float(), i)[:, None] for i in range(STEPS)], 1
    ).flatten(0, 1)
    # What is kept of it is 99 %, in the metric of likely tokens.
    assert tiny.error(found, expected) < 0.2
    assert float(torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1]) > 0.98


@pytest.fixture(scope="module")
def prompts():
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(7, tiny.VOCAB, (60, 6), generator=generator).tolist()
    return LabelledIds([row[: 3 + n % 4] for n, row in enumerate(rows[:40])], rows[40:])


@pytest.fixture(scope="module")
def rows(aligned, reference, prompts):
    return labelled_rows(
        as_side(aligned),
        as_side(reference),
        tiny.tokenizer(),
        prompts,
        STEPS,
        7,
        lambda n: None,
    )


class TestLabelledPrompts:
    def test_answers_are_of_the_model_that_is_right(self, rows, aligned, reference, prompts):
        """Harmless prompts along the reference's answers, harmful ones along the aligned one's."""
        for n, ids in enumerate([*prompts.harmless, *prompts.harmful]):
            model = reference if n < 40 else aligned
            answer: list[int] = []
            while len(answer) < STEPS:
                answer.append(int(tiny.logits(model, torch.tensor([[*ids, *answer]]), 1).argmax()))
            for side, name in ((aligned, "aligned"), (reference, "reference")):
                seen = tiny.logits(side, torch.tensor([[*ids, *answer[:-1]]]), STEPS)[0]
                head = side.get_output_embeddings()
                torch.testing.assert_close(
                    head(getattr(rows, name)[n]).detach(), seen.float(), rtol=0, atol=1e-4
                )
        assert rows.moves.tolist() == [True] * 40 + [False] * 20

    def test_harmful_prompts_are_not_to_change(self, aligned, reference, rows):
        side, other = as_side(aligned), as_side(reference)
        known = tiny.bias(torch.zeros(STEPS, tiny.VOCAB))
        made = with_slope(known, side, other, rows, tiny.tokenizer())
        everywhere = with_slope(
            known, side, other, replace(rows, moves=torch.ones_like(rows.moves)), tiny.tokenizer()
        )
        head = aligned.get_output_embeddings()

        def moved(bias, which):
            seen = head(rows.aligned[which, 0]).detach()
            return float((subtract_bias(seen, 0, bias.shift) - seen).norm())

        assert moved(made, ~rows.moves) < 0.7 * moved(everywhere, ~rows.moves)
        assert (made.slope.evidence["rows"], made.slope.evidence["harmful"]) == (60, 20)
        assert made.info.history == ("first order, labelled prompts",)

    def test_steps_without_answers_are_left_out(self, aligned, reference, rows):
        inside = rows.inside.clone()
        inside[LEAST_PROMPTS - 1 :, 2] = False
        made = with_slope(
            tiny.bias(torch.zeros(STEPS, tiny.VOCAB)),
            as_side(aligned),
            as_side(reference),
            replace(rows, inside=inside),
            tiny.tokenizer(),
        )
        assert made.values.shape[0] == len(made.slope.centre) == 2

    def test_what_is_outside_an_answer_does_not_count(self, aligned, reference, rows):
        inside = rows.inside.clone()
        inside[::3, 1:] = False
        other = rows.aligned.clone()
        other[~inside] = 1e3
        known = tiny.bias(torch.zeros(STEPS, tiny.VOCAB))
        sides = as_side(aligned), as_side(reference)
        one, two = (
            with_slope(known, *sides, replace(rows, inside=inside, aligned=u), tiny.tokenizer())
            for u in (rows.aligned, other)
        )
        torch.testing.assert_close(one.values, two.values)
        torch.testing.assert_close(one.slope.write, two.slope.write)

    def test_near_copies_do_not_count_as_evidence(self, reference):
        """Every group has a place and a shift of its own, and places say nothing of shifts."""
        hidden = reference.get_output_embeddings().weight.shape[1]
        generator = torch.Generator().manual_seed(0)
        places, shifts = torch.randn(2, 12, STEPS, hidden, generator=generator)
        copies = 0.01 * torch.randn(96, STEPS, hidden, generator=generator)
        u = places.repeat_interleave(8, 0) + copies
        inside = torch.ones(96, STEPS, dtype=torch.bool)
        shares = {}
        for size in (1, 8):
            rows = Rows(
                u, u + shifts.repeat_interleave(8, 0), inside, inside[:, 0],
                [str(n // size) for n in range(96)],
            )  # fmt: skip
            known = tiny.bias(torch.zeros(STEPS, tiny.VOCAB))
            made = with_slope(known, *[as_side(reference)] * 2, rows, tiny.tokenizer())
            shares[size] = made.slope.evidence["slope"]
            assert made.slope.evidence["gain"]["n"] == 96 / size
        assert shares[1] > 0.9
        assert shares[8] < 0.5

    def test_a_prompt_has_the_group_that_it_was_given(self):
        some = [[n] for n in range(20)]
        made = LabelledIds(some, [[n + 30] for n in range(20)], {(3,): "a", (4,): "a", (5,): ""})
        groups = [made.group(row) for row in some]
        assert groups[3] == groups[4]
        assert len(set(groups)) == 19

    def test_a_few_prompts_are_refused_and_copies_count_once(self):
        some = [[n] for n in range(20)]
        with pytest.raises(PromptError, match="at least 16 harmful prompts, not 3"):
            LabelledIds(some, [[30], [31], [32]] * 20)
        assert LabelledIds(some * 3, [[n + 30] for n in range(20)]).harmless == some

    def test_a_prompt_has_one_label(self):
        some = [[n] for n in range(20)]
        with pytest.raises(PromptError, match="16 labelled prompts are both"):
            LabelledIds(some, [[n] for n in range(4, 30)])

    @pytest.mark.parametrize("row", [[], [-1], [1.0], "bread", [True], torch.ones(3).long(), None])
    def test_what_are_no_ids_is_refused(self, row):
        with pytest.raises(UsageError, match="no list of token ids"):
            LabelledIds([[n] for n in range(20)] + [row], [[n + 30] for n in range(20)])

    @pytest.mark.parametrize(
        ("row", "said"), [([9] * 600, "does not fit the model's context"), ([9999], "token 9999")]
    )
    def test_what_the_models_cannot_read_is_refused(self, aligned, reference, prompts, row, said):
        asked = LabelledIds([*prompts.harmless, row], prompts.harmful)
        sides = as_side(aligned), as_side(reference)
        with pytest.raises(PromptError, match=said):
            labelled_rows(*sides, tiny.tokenizer(), asked, STEPS, 7, lambda n: None)

    def test_batches_are_halved_where_memory_runs_out(self, aligned, reference, prompts, rows,
                                                      monkeypatch):  # fmt: skip
        tried = []

        def short(model, ids, steps):
            tried.append(len(ids))
            if len(ids) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return whole(model, ids, steps)

        whole = paired_rows.head.head_inputs
        monkeypatch.setattr(paired_rows.head, "head_inputs", short)
        sides = as_side(aligned), as_side(reference)
        found = labelled_rows(*sides, tiny.tokenizer(), prompts, STEPS, 16, lambda n: None)
        torch.testing.assert_close(found.aligned, rows.aligned)
        assert max(tried) == 16

    def test_the_prompts_of_the_fit_are_kept(self, rows):
        assert len(rows.prompts) == 60


def test_a_model_and_its_copy_have_no_slope(reference):
    found = first_order(copy.deepcopy(reference), reference)
    assert found.slope is None
    assert not found.values.any()


class TestTheValue:
    def test_it_is_saved_and_read_exactly(self, sloped, tmp_path):
        sloped.save_pretrained(tmp_path / "bias")
        again = SafetyBias.from_pretrained(tmp_path / "bias", tokenizer=tiny.tokenizer())
        for name in ("read", "write", "centre"):
            assert torch.equal(getattr(again.slope, name), getattr(sloped.slope, name))
        assert again.slope.evidence == sloped.slope.evidence
        assert again.sha256 == sloped.sha256 != tiny.bias(sloped.values).sha256

    def test_scaled_is_strength(self, sloped, aligned):
        seen = logits(aligned)[:, 1].float()
        half = subtract_bias(seen, 1, sloped.scale(0.5).shift)
        torch.testing.assert_close(half, subtract_bias(seen, 1, sloped.shift, 0.5))

    def test_fewer_steps(self, sloped):
        cut = sloped.truncate(2)
        assert torch.equal(cut.slope.centre, sloped.slope.centre[:2])

    @pytest.mark.parametrize(
        "what", [lambda b: b.decayed(0.5), lambda b: b.add(b), lambda b: b.top_k(3)]
    )
    def test_what_knows_the_values_alone_is_refused(self, sloped, what):
        with pytest.raises(UsageError, match="first order"):
            what(sloped)

    def test_logits_that_are_ruled_out(self, sloped, aligned):
        """Special tokens are not read, so that forbidding them changes nothing else."""
        seen = logits(aligned)[:, 0].float()
        end = tiny.tokenizer().eos_token_id
        some, read = seen.clone(), seen.clone()
        some[0, end] = -torch.inf
        read[0, 40] = -torch.inf
        plain, one, two = (subtract_bias(x, 0, sloped.shift) for x in (seen, some, read))
        kept = torch.arange(tiny.VOCAB) != end
        torch.testing.assert_close(one[:, kept], plain[:, kept])
        assert one[0, end] == -torch.inf
        torch.testing.assert_close(two[1:], plain[1:])
        kept = torch.arange(tiny.VOCAB) != 40
        torch.testing.assert_close(two[0, kept], (seen[0] - sloped.values[0])[kept])

    @pytest.mark.parametrize(
        ("name", "wrong", "said"),
        [
            ("read", torch.ones(2, tiny.VOCAB), "do not add up to 0"),
            ("read", torch.ones(2, 5), "has the shape"),
            ("read", torch.tensor(1.0), "has no rows"),
            ("read", torch.zeros(2, tiny.VOCAB), "zeros only"),
            ("evidence", {"rows": 5, "harmful": 900}, "evidence|slope|constant"),
            ("evidence", {"rows": 9, "harmful": 1, "constant": 0, "slope": 7.0,
                          "gain": {"value": 0.0, "low": -1.0, "high": 1.0, "n": 9}}, "'slope'"),
            ("evidence", {"rows": 9, "harmful": 1, "constant": 0, "slope": 0.5,
                          "gain": {"value": 2.0, "low": -1.0, "high": 1.0, "n": 9}}, "cannot be"),
            ("write", torch.full((2, tiny.VOCAB), torch.nan), "not within"),
            ("centre", torch.zeros(4, 2), "has the shape"),
        ],
    )  # fmt: skip
    def test_one_that_is_none_is_not_written(self, tmp_path, name, wrong, said):
        known = tiny.bias(torch.zeros(STEPS, tiny.VOCAB))
        slope = replace(tiny.slope(), **{name: wrong})
        made = SafetyBias(known.values, known.standard_error, known.info, slope=slope)
        with pytest.raises(FormatError, match=said):
            made.save_pretrained(tmp_path / "bias")
        assert not (tmp_path / "bias" / "bias_config.json").exists()


class TestRefused:
    def test_capped_logits(self, reference):
        gemma = tiny.model("gemma2")
        with pytest.raises(ModelError, match="not linear"):
            first_order(gemma, tiny.moved(gemma))

    def test_a_marker(self, aligned, reference, prompts):
        anchored = tiny.bias(anchor="</think>")
        with pytest.raises(UsageError, match="no marker"):
            fit_slope(anchored, aligned, reference, tiny.tokenizer(), prompts)
        with pytest.raises(UsageError, match="no marker"):
            FirstOrder(None, replace(SETTINGS, anchor="</think>"))

    def test_nan(self, reference):
        inputs = torch.zeros(20, STEPS, 4)
        inputs[3, 0, 0] = torch.nan
        inside = torch.ones(20, STEPS, dtype=torch.bool)
        with pytest.raises(Exception, match="NaN"):
            Rows(inputs, inputs, inside, inside[:, 0], [""] * 20)
