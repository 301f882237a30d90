"""The page's figures. Each function returns inline SVG, or "" where there is nothing to draw.

All are about as wide as a phone, so that their text stays readable there; the page sets them side by side.
"""

from harness.report.figures.common import TimeAxis
from harness.report.figures.evidence import evidence_over_time
from harness.report.figures.forest import forest
from harness.report.figures.latency import distributions, over_time
from harness.report.figures.outcomes import divergence, errors_over_time
from harness.report.figures.resources import readings
from harness.report.figures.two_sided import two_sided

__all__ = [
    "TimeAxis", "distributions", "divergence", "errors_over_time", "evidence_over_time", "forest", "over_time",
    "readings", "two_sided",
]  # fmt: skip
