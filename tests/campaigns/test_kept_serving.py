"""The contrast of the campaign `kept-serving`, short; slow: fifteen cycles. All fifty are in the campaign."""

from __future__ import annotations

import pytest

from tests.campaigns import kept_serving

pytestmark = pytest.mark.triton
OVER_GRPC, OVER_HTTP, NAMING_THE_VERSION, PLAIN_LOADS = kept_serving.WAYS


def test_version_1_keeps_serving_while_version_2_comes_and_goes() -> None:
    counts = kept_serving.measure(OVER_GRPC, 2)
    assert counts.answered > 100
    assert counts.failed == {}


@pytest.mark.parametrize("way", [NAMING_THE_VERSION, PLAIN_LOADS], ids=lambda way: way.cycle.__name__)
def test_the_naive_calls_do_not(way: kept_serving.Way) -> None:
    counts = kept_serving.measure(way, 1)
    assert counts.answered > 0
    assert set(counts.failed) <= {"400", "404", "503"}
    assert counts.failures > 0


@pytest.mark.slow
@pytest.mark.alone
def test_fifteen_cycles() -> None:
    """The probe asks 400 times a second; how often a machine gets to it is in the campaign's table, and no test."""
    counts = kept_serving.measure(OVER_GRPC, 15)
    assert counts.failed == {}
    assert counts.answered > 750


@pytest.mark.slow
@pytest.mark.alone
def test_over_http_requests_wait_and_none_fails() -> None:
    assert kept_serving.measure(OVER_HTTP, 5).failed == {}
