"""The baselines' equations, against slow loops in float64 over single tokens."""

import math

import pytest
import torch

from tsdi.baselines import mixing

A, B, C = (torch.randn(4, 30, generator=torch.Generator().manual_seed(s)) * 2 for s in range(3))


def each(rule, *logits):
    """A rule applied to single numbers, one after the other."""
    rows = zip(*(one.double().tolist() for one in logits), strict=True)
    return torch.tensor([[rule(*numbers) for numbers in zip(*row, strict=True)] for row in rows])


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 1.7])
def test_dera_is_linear_between_the_models(weight):
    expected = each(lambda a, r: r + weight * (a - r), A, B)
    assert torch.allclose(mixing.realign(A, B, weight), expected, atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 1.0, 1.5])
def test_proxy_tuning_adds_the_difference_of_another_pair(weight):
    expected = each(lambda base, expert, anti: base + weight * (expert - anti), A, B, C)
    assert torch.allclose(mixing.proxy_tune(A, B, C, weight), expected, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.5])
def test_self_contrast_leads_away_from_the_emphasis(alpha):
    expected = each(lambda emphasised, plain: emphasised - alpha * (emphasised - plain), A, B)
    found = mixing.self_contrast(A, B, alpha)
    assert torch.allclose(found, expected, atol=1e-5)
    if alpha == 1:
        assert torch.allclose(found, B, atol=1e-5)


def slow_safe_decoding(original, expert, alpha, common):
    """One row: the intersection is found by letting k grow."""
    p, q = ([math.exp(x) for x in row] for row in (original, expert))
    p, q = ([x / sum(row) for x in row] for row in (p, q))
    by_p, by_q = (sorted(range(len(p)), key=lambda i, row=row: -row[i]) for row in (p, q))
    k = 1
    while len(space := set(by_p[:k]) & set(by_q[:k])) < common:
        k += 1
    mixed = {i: max(0.0, p[i] + alpha * (q[i] - p[i])) for i in space}
    return {i: value / sum(mixed.values()) for i, value in mixed.items()}


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("common", [1, 5])
def test_safe_decoding_mixes_probabilities_on_what_both_rank_high(alpha, common):
    found = mixing.safe_decode(A, B, alpha, common).double().exp()
    for row, a, b in zip(found, A.double().tolist(), B.double().tolist(), strict=True):
        expected = slow_safe_decoding(a, b, alpha, common)
        assert {i for i in range(30) if row[i] > 0} == {i for i, p in expected.items() if p > 0}
        assert all(float(row[i]) == pytest.approx(p, abs=1e-6) for i, p in expected.items())


def test_safe_decoding_always_leaves_a_token_to_choose():
    sure = torch.zeros(1, 6)
    sure[0, 0] = 50
    other = torch.zeros(1, 6)
    other[0, 1] = 50
    found = mixing.safe_decode(sure, other, 3.0, 1)
    assert found.isfinite().all()
    assert float(found.max()) > mixing.EXCLUDED


def slow_adacd(p, z, alpha):
    """One row as AdaCD's code has it, token by token."""
    first, second = ([math.exp(x) for x in row] for row in (p, z))
    first, second = ([x / sum(row) for x in row] for row in (first, second))
    likeliest = max(range(len(p)), key=p.__getitem__)
    rank = sum(x > z[likeliest] for x in z)
    agree = 1 / (1 + rank) >= 0.9 and max(second) >= 0.9 * max(first)
    sign = 1 if agree else -1
    return {
        i: p[i] + sign * alpha * (p[i] - z[i])
        for i in range(len(p))
        if second[i] >= 0.01 * max(second)
    }


@pytest.mark.parametrize("alpha", [0.5, 4.5])
def test_adacd_goes_on_where_both_agree_and_away_elsewhere(alpha):
    alike = A + 0.01 * B  # the same token is likeliest, and no less likely
    extreme, plain = torch.cat([A, alike]), torch.cat([B, A * 1.1])
    found = mixing.adaptive_contrast(extreme, plain, alpha)
    agreed = []
    for row, p, z in zip(found, extreme.double().tolist(), plain.double().tolist(), strict=True):
        expected = slow_adacd(p, z, alpha)
        assert {i for i in range(30) if row[i] > mixing.EXCLUDED} == set(expected)
        assert all(float(row[i]) == pytest.approx(x, abs=1e-4) for i, x in expected.items())
        agreed.append(max(p) == p[max(range(30), key=z.__getitem__)])
    assert {*agreed} == {True, False}
