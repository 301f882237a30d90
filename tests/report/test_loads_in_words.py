"""How a stage's load is written, and which requests may be compared."""

import pytest

from harness.report import words
from harness.types import StagePlan


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (StagePlan(0, "paired", "closed", 9.0, 0.5, in_flight=1), "1 pair in flight"),
        (StagePlan(0, "interleaved", "closed", 9.0, 0.5, in_flight=1, in_flight_to=8), "1 to 8 requests in flight"),
        (StagePlan(0, "split", "poisson", 9.0, 0.1, rate=1.0), "1 request/s, poisson"),
        (StagePlan(0, "paired", "constant", 9.0, 0.5, rate=10.0, rate_to=40.0), "10 to 40 pairs/s, constant"),
        (StagePlan(0, "split", "gamma", 9.0, 0.1, rate=20.0, burstiness=0.25), "20 requests/s, gamma (0.25)"),
        (StagePlan(0, "split", "trace", 9.0, 0.1, rate=3 / 9.001), "0.333296 requests/s, trace"),
    ],
)
def test_a_stages_load(plan: StagePlan, text: str) -> None:
    assert words.stage_load(plan) == text
