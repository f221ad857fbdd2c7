"""The direction against a slow discriminant and scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from tsdi.bias.folds import folds
from tsdi.condition.discriminant import (
    SHRINKAGES,
    area,
    check_labels,
    discriminants,
    fit_direction,
)
from tsdi.errors import PromptError


def drawn(rows=40, hidden=12, apart=2.0, seed=0):
    """Two normal kinds of unlike spread along each axis, apart along the first."""
    generator = torch.Generator().manual_seed(seed)
    harmful = torch.arange(rows) % 3 == 0  # of unlike numbers
    inputs = torch.randn(rows, hidden, generator=generator, dtype=torch.float64)
    inputs *= torch.linspace(0.2, 3, hidden, dtype=torch.float64)
    inputs[:, 0] += apart * harmful
    return inputs, harmful, [str(n) for n in range(rows)]


def slow(inputs, harmful, shrinkage):
    """The equations of discriminant.py as they stand there."""
    kinds = [inputs[~harmful].numpy(), inputs[harmful].numpy()]
    means = [kind.mean(0) for kind in kinds]
    within = sum(np.cov(kind.T, bias=True) for kind in kinds) / 2
    hidden = len(within)
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / hidden * np.eye(hidden)
    vector = np.linalg.solve(shrunk, means[1] - means[0])
    return vector, -vector @ (means[0] + means[1]) / 2


class TestDiscriminants:
    @pytest.mark.parametrize("rows", [40, 9])  # of more prompts than inputs, and of fewer
    def test_all_are_the_slow_ones(self, rows):
        inputs, harmful, _ = drawn(rows)
        vectors, intercepts = discriminants(inputs, harmful, SHRINKAGES)
        for shrinkage, vector, intercept in zip(SHRINKAGES, vectors, intercepts, strict=True):
            expected = slow(inputs, harmful, shrinkage)
            np.testing.assert_allclose(vector, expected[0], rtol=1e-7)
            assert float(intercept) == pytest.approx(expected[1], rel=1e-7)

    @pytest.mark.parametrize("shrinkage", [0.01, 0.3, 1.0])
    def test_all_are_scikit_learns(self, shrinkage):
        inputs, harmful, _ = drawn()
        made = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[0.5, 0.5])
        made.fit(inputs.numpy(), harmful.numpy())
        vectors, intercepts = discriminants(inputs, harmful, [shrinkage])
        np.testing.assert_allclose(vectors[0], made.coef_[0], rtol=1e-7)
        assert float(intercepts[0]) == pytest.approx(float(made.intercept_[0]), rel=1e-7)

    def test_at_1_it_is_the_difference_in_means(self):
        inputs, harmful, _ = drawn()
        ((vector,), _) = discriminants(inputs, harmful, [1.0])
        means = inputs[harmful].mean(0) - inputs[~harmful].mean(0)
        assert float(torch.cosine_similarity(vector, means, 0)) == pytest.approx(1)

    def test_prompts_of_a_kind_that_are_all_alike_are_told_apart(self):
        inputs = torch.tensor([[0.0, 1], [0, 1], [2, 1], [2, 1]], dtype=torch.float64)
        harmful = torch.tensor([False, False, True, True])
        ((vector,), intercept) = discriminants(inputs, harmful, [0.1])
        assert ((inputs @ vector + intercept > 0) == harmful).all()


class TestDirection:
    def test_it_is_the_discriminant_with_a_scale_and_a_centre_of_held_out_prompts(self):
        inputs, harmful, groups = drawn(60, apart=1.0)
        found = fit_direction(inputs, harmful, groups)
        vector, intercept = slow(inputs, harmful, found.shrinkage)
        held = torch.empty(len(inputs), dtype=torch.float64)
        for test in folds(harmful, groups):
            one, other = slow(inputs[~test], harmful[~test], found.shrinkage)
            held[test] = inputs[test] @ torch.from_numpy(one) + other
        one, other = held[~harmful], held[harmful]
        scale = float((other.mean() - one.mean()) / ((one.var() + other.var()) / 2))
        centre = float((one.mean() + other.mean()) / 2)
        np.testing.assert_allclose(found.vector, scale * vector, rtol=1e-6)
        assert found.intercept == pytest.approx(scale * (intercept - centre), rel=1e-6)

    def test_a_planted_direction_is_found(self):
        inputs, harmful, groups = drawn(400, apart=3.0)
        found = fit_direction(inputs, harmful, groups)
        assert abs(float(found.vector[0] / found.vector.norm())) > 0.95
        fresh, kinds, _ = drawn(400, apart=3.0, seed=1)
        assert area(found.score(fresh), kinds) > 0.95

    def test_its_score_is_the_log_odds_of_a_prompt_of_either_kind(self):
        """Of prompts with a score near h, sigmoid(h) are harmful, where both are as frequent."""
        inputs, _, groups = drawn(1500)
        harmful = torch.arange(1500) % 2 == 0
        inputs[:, 0] = torch.randn(1500, generator=torch.Generator().manual_seed(3)).double()
        inputs[:, 0] += 1.5 * harmful
        score = fit_direction(inputs, harmful, groups).score(inputs)
        for low, high in ((-3, -1), (-1, 0), (0, 1), (1, 3)):
            near = (score > low) & (score < high)
            expected = float(score[near].sigmoid().mean())
            assert float(harmful[near].double().mean()) == pytest.approx(expected, abs=0.07)

    def test_shuffled_labels_teach_nothing(self):
        inputs, harmful, groups = drawn(200, apart=3.0)
        areas = []
        for seed in range(6):
            order = torch.randperm(200, generator=torch.Generator().manual_seed(seed))
            found = fit_direction(inputs, harmful[order], groups)
            fresh, kinds, _ = drawn(200, apart=0.0, seed=seed + 10)
            areas.append(area(found.score(fresh), kinds))
        assert 0.42 < sum(areas) / 6 < 0.58

    def test_what_held_out_prompts_deny_scores_0(self):
        """Each kind's copies lie on the other's side: what is learnt from some is wrong of all."""
        inputs = torch.tensor([[1.0], [-1.0]]).double().repeat(10, 1)
        inputs += torch.linspace(0, 0.01, 20).double()[:, None]
        harmful = torch.arange(20) % 4 < 2
        found = fit_direction(inputs, harmful, [str(n // 2) for n in range(20)])
        assert float(found.vector.abs().max()) < 0.5

    def test_many_copies_do_not_count_as_evidence(self):
        """Every group has one place of its own and one kind, and places say nothing of kinds."""
        generator = torch.Generator().manual_seed(0)
        places = torch.randn(20, 30, generator=generator, dtype=torch.float64)
        inputs = places.repeat_interleave(10, 0) + 1e-3 * torch.randn(200, 30).double()
        harmful = (torch.arange(20) % 2 == 0).repeat_interleave(10)
        apart = torch.empty(200, dtype=torch.float64)
        together = torch.empty(200, dtype=torch.float64)
        for groups, score in (([str(n) for n in range(200)], apart),
                              ([str(n // 10) for n in range(200)], together)):  # fmt: skip
            for test in folds(harmful, groups):
                vectors, intercepts = discriminants(inputs[~test], harmful[~test], [0.1])
                score[test] = inputs[test] @ vectors[0] + intercepts[0]
        assert area(apart, harmful) > 0.95
        assert area(together, harmful) < 0.8


@pytest.mark.parametrize(("harmful", "harmless", "named"), [(7, 8, "7"), (0, 50, "0")])
def test_too_few_labels_are_refused(harmful, harmless, named):
    kinds = torch.tensor([True] * harmful + [False] * harmless)
    with pytest.raises(PromptError, match=f"at least 8 harmful prompts, not {named}"):
        check_labels(kinds)
    with pytest.raises(PromptError, match=f"at least 8 harmless prompts, not {named}"):
        check_labels(~kinds)
