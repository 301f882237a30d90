"""Quantities as a person writes them: 90s, 2m, 250ms, 1/s, 30/m, 10%, 3pp. Each parser has its formatter.

Parsers take what YAML gave (text, number, anything) and raise ValueError "expected ..., found ...".
Percentages go through Decimal, so that 10% is exactly the float 0.1 and comes back as 10%.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
DURATION_PATTERN = rf"^(?:{_NUMBER}(?:us|ms|s|m|h|d))+$"
RATE_PATTERN = rf"^{_NUMBER} ?/ ?(?:s|m|min|h)$"
PERCENT_PATTERN = rf"^{_NUMBER} ?%$"
FACTOR_PATTERN = rf"^{_NUMBER} ?x$"
POINTS_PATTERN = rf"^{_NUMBER} ?pp$"
BYTES_PATTERN = rf"^{_NUMBER} ?(?:B|kB|KiB|[MGT]i?B)$"
MEMORY_PATTERN = rf"^{_NUMBER} ?(?:%|B|kB|KiB|[MGT]i?B)$"

_SECONDS = {
    "us": Decimal("0.000001"),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_BYTES = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("kMGT", 1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", 1)},
}
_PER_SECOND = {"s": 1, "m": 60, "min": 60, "h": 3600}


def found(value: Any) -> str:
    """`value` as it is shown in an error: short, on one line, in YAML's words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def parse_duration(value: Any) -> float:
    """Seconds of `90s`, `2m`, `250ms`, `1m30s`. Zero is a duration; who needs more checks it."""
    if not isinstance(value, str) or not re.fullmatch(DURATION_PATTERN, value):
        raise ValueError(f"expected a duration such as 90s, 2m or 250ms, found {found(value)}")
    parts = re.findall(rf"({_NUMBER})(us|ms|s|m|h|d)", value)
    return float(sum((Decimal(number) * _SECONDS[unit] for number, unit in parts), Decimal(0)))


def parse_rate(value: Any) -> float:
    """A second, above 0, of `1/s`, `30/m`, `100/h`."""
    match = re.fullmatch(rf"({_NUMBER}) ?/ ?(s|m|min|h)", value) if isinstance(value, str) else None
    rate = float(Decimal(match[1]) / _PER_SECOND[match[2]]) if match else 0.0
    if rate <= 0:
        raise ValueError(f"expected a rate above 0 such as 1/s or 30/m, found {found(value)}")
    return rate


def parse_level(value: Any) -> int | float:
    """A load: a rate such as `10/s` (a float), or a number in flight such as 8 (an int)."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    try:
        return parse_rate(value)
    except ValueError as error:
        message = f"expected a rate such as 10/s, or a number in flight such as 8, found {found(value)}"
        raise ValueError(message) from error


def parse_factor(value: Any) -> float:
    """A factor above 0 of `2x`, `0.5x`."""
    text = value if isinstance(value, str) and re.fullmatch(FACTOR_PATTERN, value) else ""
    factor = float(Decimal(text.rstrip("x "))) if text else 0.0
    if factor <= 0:
        raise ValueError(f"expected a factor above 0 such as 2x or 0.5x, found {found(value)}")
    return factor


def parse_share(value: Any) -> float:
    """A fraction from 0 to 1 of `10%`."""
    share = _percent(value)
    if share is None or share > 1:
        raise ValueError(f"expected a share from 0% to 100%, found {found(value)}")
    return share


def parse_share_limit(value: Any) -> float:
    """A share that may never be exceeded: below 100%."""
    share = parse_share(value)
    if share == 1:
        raise ValueError(f"expected a share below 100%, found {value!r}: it would allow everything")
    return share


def parse_relative(value: Any) -> float:
    """A fraction of `10%`; it may be more than 100%, and 0% allows no difference at all."""
    margin = _percent(value)
    if margin is None:
        raise ValueError(f"expected a percentage such as 10%, found {found(value)}")
    return margin


def parse_points(value: Any) -> float:
    """A fraction above 0 and below 1 of percentage points such as `3pp`."""
    points = _hundredths(value, POINTS_PATTERN)
    if points is None or not 0 < points < 1:
        raise ValueError(f"expected percentage points such as 1pp (of all requests), found {found(value)}")
    return points


def parse_drop(value: Any) -> float:
    """A fraction above 0 and below 1 of `10%`: what falls cannot fall by all of itself and still be there."""
    margin = _percent(value)
    if not margin or margin >= 1:
        raise ValueError(f"expected a percentage above 0% and below 100% such as 10%, found {found(value)}")
    return margin


def parse_bytes(value: Any) -> float:
    """Whole bytes above 0 of `40GiB`, `512MiB`, `80GB`."""
    match = re.fullmatch(rf"({_NUMBER}) ?([A-Za-z]+)", value) if isinstance(value, str) else None
    known = match is not None and match[2] in _BYTES
    size = round(Decimal(match[1]) * _BYTES[match[2]]) if match is not None and known else 0
    if size <= 0:
        raise ValueError(f"expected a size above 0 such as 40GiB or 512MiB, found {found(value)}")
    return float(size)


def parse_memory(value: Any) -> tuple[float, bool]:
    """Bytes of `40GiB`, or a share above 0 and below 1 of `90%`; and whether it is a share."""
    if isinstance(value, str) and value.endswith("%"):
        share = _percent(value)
        if not share or share >= 1:
            raise ValueError(f"expected a share of the device's memory above 0% and below 100%, found {found(value)}")
        return share, True
    try:
        return parse_bytes(value), False
    except ValueError as error:
        message = f"expected a size such as 40GiB, or a share of the device's memory such as 90%, found {found(value)}"
        raise ValueError(message) from error


def parse_number(value: Any) -> float:
    """A number from 0 up."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"expected a number from 0 up such as 0.06, found {found(value)}")
    return float(value)


def format_duration(seconds: float) -> str:
    """In whole hours or days where it is such, below a second in ms, else in seconds."""
    exact = Decimal(repr(seconds))
    for unit in ("d", "h"):
        if exact and exact % _SECONDS[unit] == 0:
            return f"{_plain(exact / _SECONDS[unit])}{unit}"
    return f"{_plain(exact * 1000)}ms" if 0 < exact < 1 else f"{_plain(exact)}s"


def format_rate(per_second: float) -> str:
    """A rate that is no short number a second (30/m is not, 20/m is) is written a minute or an hour."""
    for unit, factor in (("s", 1), ("m", 60), ("h", 3600)):
        text = f"{_plain(Decimal(repr(round(per_second * factor, 9))))}/{unit}"
        if parse_rate(text) == per_second:
            return text
    return f"{_plain(Decimal(repr(per_second)))}/s"


def format_level(level: float) -> str:
    return str(level) if isinstance(level, int) else format_rate(level)


def format_factor(factor: float) -> str:
    return f"{_plain(Decimal(repr(factor)))}x"


def format_bytes(size: float) -> str:
    """In the unit of which it is the shortest number, of several the largest."""
    units = sorted((unit for unit in _BYTES if _BYTES[unit] <= size), key=_BYTES.__getitem__, reverse=True)
    written = [f"{_plain(Decimal(int(size)) / _BYTES[unit])}{unit}" for unit in units]
    return min(written, key=lambda text: len(text.rstrip("kKMGTiB")))


def format_percent(fraction: float) -> str:
    return f"{_plain(Decimal(repr(fraction)) * 100)}%"


def format_points(fraction: float) -> str:
    return f"{_plain(Decimal(repr(fraction)) * 100)}pp"


def _percent(value: Any) -> float | None:
    return _hundredths(value, PERCENT_PATTERN)


def _hundredths(value: Any, pattern: str) -> float | None:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        return None
    return float(Decimal(value.rstrip("%p ")) / 100)


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
