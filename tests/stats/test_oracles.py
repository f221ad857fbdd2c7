"""Our statistics are those of statsmodels and scipy, on any data."""

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from tsdi.stats.clusters import clustered_kappa, clustered_mean
from tsdi.stats.proportions import holm, mcnemar, wilson
from tsdi.stats.seeds import mean_interval

NUMBERS = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))
WORDS = st.sampled_from("abcd")
PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60)


@given(st.integers(1, 300), st.data())
def test_wilson(n, data):
    hits = data.draw(st.integers(0, n))
    theirs = proportion_confint(hits, n, method="wilson")
    assert (wilson(hits, n).low, wilson(hits, n).high) == pytest.approx(theirs, abs=1e-9)


@given(PAIRS)
def test_mcnemar(pairs):
    before, after = zip(*pairs, strict=True)
    table = np.zeros((2, 2))
    for b, a in pairs:
        table[int(b), int(a)] += 1
    assume(table[0, 1] + table[1, 0] > 0)
    assert mcnemar(before, after) == pytest.approx(their_mcnemar(table, exact=True).pvalue)


@settings(max_examples=15, deadline=None)  # a tenth of a second each, for them
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm(p_values):
    theirs = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(theirs.tolist(), abs=1e-12)


@given(st.lists(NUMBERS, min_size=2, max_size=20))
def test_means_over_seeds(values):
    assume(np.std(values) > 1e-6)
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_interval(values)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-6)


SHARES = st.floats(0, 1).map(lambda x: round(x, 3))


@given(st.lists(st.tuples(SHARES, st.integers(0, 5)), min_size=6, max_size=40))
def test_means_of_clusters(rows):
    values, clusters = zip(*rows, strict=True)
    assume(len(set(clusters)) > 2)
    assume(np.std(values) > 1e-3)
    fit = sm.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": np.array(clusters)}, use_t=True
    )
    found, ends = clustered_mean(values, clusters), np.clip(fit.conf_int()[0], 0, 1)
    assert found.value == pytest.approx(fit.params[0], abs=1e-6)
    assert (found.low, found.high) == pytest.approx(tuple(ends), rel=1e-6, abs=1e-6)


@given(PAIRS | st.lists(st.tuples(WORDS, WORDS), min_size=2, max_size=60))
def test_kappa(pairs):
    truth, said = zip(*pairs, strict=True)
    words = sorted({*truth, *said})
    table = np.zeros((len(words), len(words)))
    for one, other in pairs:
        table[words.index(one), words.index(other)] += 1
    assume(len(words) > 1)
    theirs = cohens_kappa(table, return_results=False)
    assert clustered_kappa(truth, said, range(len(truth))).value == pytest.approx(theirs, abs=1e-9)
