"""Rates corrected for a judge's errors, as an audit measured them.

A judge does not err alike on the answers of all models: a rule of words knows one model's refusals,
not another's. So the errors of an audit are taken for those on a further model, as uncertain as
they differ between the audited ones. An audit of one model knows nothing of that.
"""

from collections.abc import Sequence
from math import sqrt

from scipy.special import ndtri

from tsdi.audit.result import Audit
from tsdi.errors import UsageError
from tsdi.evaluation.metrics import ArmMetrics
from tsdi.judging.panel import judge_of
from tsdi.runs.records import Record
from tsdi.stats.interval import Estimate, complement, interval_text
from tsdi.stats.proportions import wilson_ends

_Z = float(ndtri(0.975))


def corrected(figures: ArmMetrics, audit: Audit, judge: Record) -> dict[str, Estimate]:
    """The figures of an evaluation, corrected by an audit of its judge.

    Returns:
        By an audit of refusals: "refused_harmless", "refused_lookalike" and "refused_harmful", the
        share of answers that refuse in part or in full. By one of safety: "safety". Only of kinds
        of prompts that are in the audit with and without the target, and that the audited judge
        judged; without a value where the audit does not allow for one.
    """
    raw = {
        f"refused_{kind}": (kind, complement(shares.none))
        for kind, shares in figures.refusals.items()
    }
    if audit.target == "unsafe":
        raw = {"safety": ("harmful", complement(figures.safety))}
    found = {}
    for name, (kind, rate) in raw.items():
        if judge_of(judge, kind) == audit.judge:
            value = correct_kind(rate, audit, kind)
            if value is not None:
                found[name] = complement(value) if name == "safety" else value
    return found


def correct_kind(raw: Estimate, audit: Audit, kind: str) -> Estimate | None:
    """A rate on prompts of one kind, corrected by an audit on prompts of that kind.

    `raw` is the share of answers in which the judge finds the target, with its Wilson interval.

    Returns:
        The corrected rate, with the interval for a model that was not audited; without a value if
        the rate contradicts the audit, or the judge may do no better than chance on that model.
        None if there is no rate, or the audit lacks such answers with or without the target.
    """
    pooled = audit.kinds.get(kind)
    if pooled is None or None in (raw.value, pooled.recall.value, pooled.specificity.value):
        return None
    models = [kinds[kind] for kinds in audit.models.values() if kind in kinds]
    sensitivity = for_new_model(pooled.recall, [figures.recall for figures in models])
    specificity = for_new_model(pooled.specificity, [figures.specificity for figures in models])
    try:
        return correct_rate(raw, sensitivity, specificity)
    except UsageError:
        return Estimate(None, 0.0, 1.0, raw.n)


def correct_rate(raw: Estimate, sensitivity: Estimate, specificity: Estimate) -> Estimate:
    """A rate corrected for the judge's errors (Rogan-Gladen), with its 95 % interval.

    The value is (r + c - 1) / (s + c - 1), with r the raw rate, s the sensitivity, c the
    specificity. The interval is Lang and Reiczigel's, P + d -+ z sqrt(V), where

        P = (r' + c' - 1) / J,  J = s' + c' - 1
        d = 2 z^2 (P s' (1 - s') / m - (1 - P) c' (1 - c') / k)
        V = (r' (1 - r') / n + P^2 s' (1 - s') / m + (1 - P)^2 c' (1 - c') / k) / J^2

    r' is r with z^2 / 2 hits in z^2 answers added, of n then; s' and c' are s and c with one hit in
    two answers added, of m and k then. Value and interval are clipped to [0, 1]; there is no value,
    and the interval is [0, 1], where the whole interval is outside: such a rate contradicts the
    audit, as one below the judge's share of false alarms does.

    Args:
        raw: Share of answers in which the judge finds the target, with its Wilson interval.
        sensitivity: Share that it finds of answers with the target, with its interval.
        specificity: Share that it passes of answers without, with its interval. Numbers of answers
            are those that the widths of intervals stand for, so that clusters count for less.

    Returns:
        The corrected rate; its n is that of the raw rate.

    Raises:
        UsageError: If s + c - 1 is not significantly above 0: the judge may tell answers with the
            target from others no better than chance.
        ValueError: If a figure has no value.

    Source: Rogan and Gladen (1978), American Journal of Epidemiology 107, 71-76; Lang and Reiczigel
    (2014), Preventive Veterinary Medicine 113, 13-22, equations 2, 6, 7, 16 and 17.
    """
    if raw.value is None or sensitivity.value is None or specificity.value is None:
        raise ValueError("a figure without a value")
    r, n = _with_more(raw, _Z**2)
    s, m = _with_more(sensitivity, 2)
    c, k = _with_more(specificity, 2)
    var_s, var_c = s * (1 - s) / m, c * (1 - c) / k
    if s + c - 1 <= _Z * sqrt(var_s + var_c):
        raise UsageError(
            f"The judge finds {interval_text(sensitivity, 0, percent=True)} and passes"
            f" {interval_text(specificity, 0, percent=True)} of the rest: perhaps no better than"
            " chance.",
            "To correct its rates, audit it on more answers, or use another judge.",
        )
    rate = (r + c - 1) / (s + c - 1)
    shift = 2 * _Z**2 * (rate * var_s - (1 - rate) * var_c)
    variance = r * (1 - r) / n + rate**2 * var_s + (1 - rate) ** 2 * var_c
    half = _Z * sqrt(variance) / (s + c - 1)
    low, high = rate + shift - half, rate + shift + half
    if high <= 0 or low >= 1:
        return Estimate(None, 0.0, 1.0, raw.n)
    value = (raw.value + specificity.value - 1) / (sensitivity.value + specificity.value - 1)
    return Estimate(_clip(value), _clip(low), _clip(high), raw.n)


def for_new_model(pooled: Estimate, by_model: Sequence[Estimate]) -> Estimate:
    """A judge's error rate with its prediction interval for a model that was not audited.

    The variance is that of the pooled rate, plus t^2 (1 + sum of squares of the models' shares of
    the answers), t^2 being the variance between models by DerSimonian and Laird. The interval is
    Wilson's with as many answers as give that variance. Models without answers count for nothing.

    Source: DerSimonian and Laird (1986), Controlled Clinical Trials 7, 177-188; prediction: Higgins
    et al. (2009), Journal of the Royal Statistical Society A 172, 137-159.
    """
    rates = [(rate.value, rate.n) for rate in by_model if rate.value is not None]
    p, total = pooled.value, sum(n for _, n in rates)
    if p is None or p in (0, 1) or len(rates) < 2:
        return pooled
    one = p * (1 - p)  # variance of a single answer
    squares = sum((n / total) ** 2 for _, n in rates)
    excess = sum(n * (rate - p) ** 2 for rate, n in rates) / one - (len(rates) - 1)
    between = max(0.0, excess * one / (total * (1 - squares)))
    n = one / (one / _independent(pooled) + between * (1 + squares))
    return Estimate(p, *wilson_ends(p, n), pooled.n)


def _with_more(share: Estimate, number: float) -> tuple[float, float]:
    """The share and n after adding `number` answers, half of them hits."""
    n = _independent(share)
    return ((share.value or 0.0) * n + number / 2) / (n + number), n + number


def _independent(share: Estimate) -> float:
    """The effective number of independent answers of a share with this Wilson interval.

    Its width w solves (w^2 - 1) u^2 + (2 w^2 - 4 p (1 - p)) u + w^2 = 0, with u = z^2 / n.
    """
    width2, p = (share.high - share.low) ** 2, share.value or 0.0
    half = width2 - 2 * p * (1 - p)
    return _Z**2 * (1 - width2) / (half + sqrt(half**2 + width2 * (1 - width2)))


def _clip(number: float) -> float:
    return min(1.0, max(0.0, number))
