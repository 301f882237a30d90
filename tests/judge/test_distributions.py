"""The same numbers as scipy.stats gives."""

from __future__ import annotations

import pytest
from scipy import stats

from harness.judge.statistics import distributions

CLOSE = {"rel": 1e-9, "abs": 1e-300}
TAILS = (1e-12, 1e-4, 0.01, 0.05, 0.5, 0.8, 0.999)


@pytest.mark.parametrize("p", TAILS)
def test_tails(p: float) -> None:
    assert distributions.normal_isf(p) == pytest.approx(stats.norm.isf(p), **CLOSE)
    for df in (1, 3, 11, 200):
        assert distributions.t_isf(p, df) == pytest.approx(stats.t.isf(p, df), rel=1e-6, abs=1e-9)
    for shape in (0.25, 1.0, 4.0):
        assert distributions.gamma_isf(p, shape, 0.5) == pytest.approx(stats.gamma.isf(p, shape, scale=0.5), **CLOSE)


@pytest.mark.parametrize("z", [-8.0, -1.0, 0.0, 0.3, 2.0, 12.0])
def test_survival(z: float) -> None:
    assert distributions.normal_sf(z) == pytest.approx(stats.norm.sf(z), **CLOSE)
    for df in (1, 3, 11, 200):
        assert distributions.t_sf(z, df) == pytest.approx(stats.t.sf(z, df), **CLOSE)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.5, 0.9, 1.0])
def test_a_share(share: float) -> None:
    for total in (1, 7, 20, 400, 100_000):
        near = round(total * share)
        for count in {0, 1, total // 20, near - 1, near, near + 1, near + total // 100, total // 2, total}:
            if 0 <= count <= total:
                known = stats.binomtest(count, total, share).pvalue
                assert distributions.binomial_p(count, total, share) == pytest.approx(known, rel=1e-5, abs=1e-12)
