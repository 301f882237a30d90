"""How numbers and findings are put into words. Every sentence the judge says is made of these."""

from __future__ import annotations

import math
import re

from harness.judge.statistics.intervals import Spread


def time(seconds: float) -> str:
    if seconds >= 100:
        return f"{seconds:.0f} s"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    if seconds >= 0.01:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e3:.3g} ms"


def percent(share: float) -> str:
    """0.298 is 29.8 %; small shares keep two digits, as far as they say anything."""
    value = share * 100
    return f"{value:.1f} %" if abs(value) >= 0.095 or abs(value) < 1e-4 else f"{value:.2g} %"


def points(difference: float) -> str:
    """0.143 is 14.3 percentage points; below one point two digits, as far as they say anything."""
    whole = difference * 100
    value = f"{whole:.1f}".removesuffix(".0")
    if abs(whole) < 0.95:
        value = f"{whole:.2g}" if abs(whole) >= 5e-4 else "0"
    return f"{value} percentage point{'' if value == '1' else 's'}"


def margin(share: float) -> str:
    return f"{share * 100:.3g} %"


def number(value: float) -> str:
    if 0 < abs(value) < 1e-4:
        return "<0.0001" if value > 0 else ">-0.0001"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def change(ratio: float) -> str:
    """1.298 is '29.8 % higher'."""
    if not math.isfinite(ratio):
        return "beyond measure higher"
    if round(abs(ratio - 1) * 1000) == 0:
        return "the same"
    return apart(ratio)


def at_least(ratio: float) -> str:
    return f"{percent(max(ratio, 1) - 1)} higher"


def apart(ratio: float) -> str:
    """0.96 is '4.0 % lower'; what is equal counts as higher."""
    return f"{percent(ratio - 1)} higher" if ratio >= 1 else f"{percent(1 - ratio)} lower"


def duration(seconds: float) -> str:
    if seconds < 1:
        return "a second"
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    if seconds < 7200:
        return f"{math.ceil(seconds / 60)} min"
    return f"{math.ceil(seconds / 3600)} h"


def count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def needs(seconds: float | None) -> str:
    """The tail of an inconclusive sentence."""
    if seconds is None:
        return ""
    return f"; about {duration(seconds)} more of this load would settle it"


def trust(spread: Spread) -> str:
    if not spread.low_trust:
        return ""
    return (
        f" (low trust: the difference wanders and neighbouring blocks resemble each other, "
        f"so {spread.units} of them are worth {spread.effective_units:.0f})"
    )


def confidence(alpha: float) -> str:
    """0.01 is '99 %', 0.0025 is '99.75 %'."""
    return f"{(1 - alpha) * 100:.4g} %"


def sentence(text: str) -> str:
    """With a capital letter, as reasons of stages and verdicts are shown; names (tpot, v2) stay."""
    if re.match(r"(v\d|ttft|tpot|icl|response_time|request_latency|osl|quality)", text):
        return text
    return text[:1].upper() + text[1:]
