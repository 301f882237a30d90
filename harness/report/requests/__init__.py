"""Requests as pages and figures need them, however many there are."""

from harness.report.requests.reading import extent
from harness.report.requests.spread import Floats, Ints, Spread
from harness.report.requests.summary import (
    ANSWERED,
    ARMS,
    FAILED,
    METRICS,
    SCORED,
    SCORING_FAILED,
    ErrorRow,
    Points,
    Requests,
    equal_load,
)
from harness.report.requests.summing import MOST_EXACT, requests

__all__ = [
    "ANSWERED",
    "ARMS",
    "FAILED",
    "METRICS",
    "MOST_EXACT",
    "SCORED",
    "SCORING_FAILED",
    "ErrorRow",
    "Floats",
    "Ints",
    "Points",
    "Requests",
    "Spread",
    "equal_load",
    "extent",
    "requests",
]
