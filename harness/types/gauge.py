"""What a monitoring system is told: quantities with labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gauge:
    """One quantity and its values, one for each set of labels.

    `unit`: OpenMetrics' word for it (seconds, bytes, ratio, joules), with which `name` ends; "" where it has none.
    """

    name: str
    help: str
    unit: str
    points: tuple[tuple[Mapping[str, str], float], ...]
