"""The study's results as Markdown tables, and its worst cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.judge.statistics.counts import rate_lower, rate_upper
from tests.campaigns.study.worlds import WORLDS

DRIFTING = ("drifting arms", "slowly drifting arms")


@dataclass(frozen=True)
class Rates:
    """Of one row: how often each column happened, of `n` repetitions; medians of numbers."""

    n: int
    counts: Mapping[str, int]
    medians: Mapping[str, float | None]

    @classmethod
    def of(cls, happened: Sequence[Mapping[str, Any]]) -> Rates:
        counts, medians = {}, {}
        for column in happened[0]:
            values = [each[column] for each in happened]
            if all(isinstance(value, bool) for value in values):
                counts[column] = sum(values)
            else:
                known = [value for value in values if value is not None]
                medians[column] = median(known) if known else None
        return cls(len(happened), counts, medians)

    def rate(self, column: str) -> float:
        return self.counts[column] / self.n

    def interval(self, column: str) -> tuple[float, float]:
        """Clopper and Pearson, 95 %."""
        count = self.counts[column]
        return rate_lower(count, self.n, 0.025), rate_upper(count, self.n, 0.025)

    def show(self, column: str) -> str:
        low, high = (100 * bound for bound in self.interval(column))
        return f"{100 * self.rate(column):.1f} ({low:.1f} to {high:.1f})"

    def seconds(self, column: str) -> str:
        value = self.medians.get(column)
        return "-" if value is None else f"{value:.0f}"


def render(found: Mapping[str, Rates]) -> str:
    some = next(iter(found.values()))
    latency = {name.removeprefix("latency: "): rates for name, rates in found.items() if name.startswith("latency: ")}
    parts = [
        f"{some.n} repetitions a row; per cent, with 95 % intervals.",
        "**Identical builds, margin 0, a look every 10 s over 300 s: false rollbacks** (promise: 1 %)",
        _table(
            ("world", "p50", "p99", "plain t-test, p50", "p99", "low trust said, p50", "p99"),
            latency,
            ("false rollback p50", "false rollback p99", "false rollback p50, plain t", "false rollback p99, plain t",
             "low trust p50", "low trust p99"),
        ),
        "**Truly 10 % slower, margin 10 %: promoted** (promise: 5 %), and identical builds promoted",
        _table(
            ("world", "p50", "p99", "identical, p50", "p99"),
            latency,
            ("promoted at the margin p50", "promoted at the margin p99", "identical promoted p50",
             "identical promoted p99"),
        ),
        "**Found within 300 s at margin 0: p50 5 % slower, p99 10 % slower** (median seconds until then)",
        _table(
            ("world", "p50", "s", "p99", "s", "plain t-test, p50", "p99"),
            latency,
            ("found p50", "seconds to find p50", "found p99", "seconds to find p99", "found p50, plain t",
             "found p99, plain t"),
        ),
        "**Pairs: a build that works 2 % longer on each request, queueing world, margin 0**",
        _table(
            ("arrivals", "p50", "s", "p99", "s", "plain t-test, p50", "p99"),
            {name.removeprefix("service 2 % longer: "): rates for name, rates in found.items() if "service" in name},
            ("found p50", "seconds to find p50", "found p99", "seconds to find p99", "found p50, plain t",
             "found p99, plain t"),
        ),
        "**Tails and errors**",
        "\n".join(_lines(found)),
    ]  # fmt: skip
    return "\n\n".join(parts)


def _table(head: Sequence[str], found: Mapping[str, Rates], columns: Sequence[str]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, rates in found.items():
        cells = [rates.show(column) if column in rates.counts else rates.seconds(column) for column in columns]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def _lines(found: Mapping[str, Rates]) -> list[str]:
    lines = ["| what | how often | median requests an arm |", "|---|---|---|"]
    for name, rates in found.items():
        if name.startswith(("tail", "coupled")):
            lines += [f"| {name}: {column} | {rates.show(column)} | |" for column in rates.counts]
        if name.startswith("errors"):
            until = rates.seconds("requests until then")
            lines.append(f"| {name}: rolled back | {rates.show('rolled back')} | {until} |")
            column = "beyond an objective of 0.5 %"
            lines.append(f"| {name}: {column} | {rates.show(column)} | {rates.seconds('requests until beyond it')} |")
    return lines


def worst(found: Mapping[str, Rates]) -> dict[str, Any]:
    """The worst cell of each promise, with its interval: [rate, low, high, where]."""
    latency = {name.removeprefix("latency: "): rates for name, rates in found.items() if name.startswith("latency: ")}
    calm = {name: rates for name, rates in latency.items() if name not in DRIFTING}

    def most(among: Mapping[str, Rates], *columns: str) -> list[Any]:
        rate, column, name = max(
            (rates.rate(column), column, name) for name, rates in among.items() for column in columns
        )
        return [round(rate, 4), *(round(bound, 4) for bound in among[name].interval(column)), f"{name}, {column[-3:]}"]

    def one(name: str, column: str) -> list[Any]:
        return [round(found[name].rate(column), 4), *(round(bound, 4) for bound in found[name].interval(column))]

    return {
        "false_rollback": most(calm, "false rollback p50", "false rollback p99"),
        "false_rollback_drifting": most(
            {DRIFTING[0]: latency[DRIFTING[0]]}, "false rollback p50", "false rollback p99"
        ),
        "promoted_at_the_margin": most(calm, "promoted at the margin p50", "promoted at the margin p99"),
        "power_autocorrelated_p50": one("latency: autocorrelated", "found p50"),
        "power_autocorrelated_p99": one("latency: autocorrelated", "found p99"),
        "power_queueing_p50": one("latency: queueing", "found p50"),
        "power_queueing_p99": one("latency: queueing", "found p99"),
        "paired_p50": one("service 2 % longer: same arrivals", "found p50"),
        "paired_p99": one("service 2 % longer: same arrivals", "found p99"),
        "tail_rolled_back": one("tail: 2 % of requests 10 times slower", "found"),
        "errors_found": one("errors: 0 against 0.3 %", "rolled back"),
        "errors_median_requests": found["errors: 0.1 against 5 %"].medians["requests until beyond it"],
        "coupled_promoted": one("coupled arms: v2 30 % slower, v1 dragged by 20 %", "promoted"),
    }


assert set(DRIFTING) <= set(WORLDS)
