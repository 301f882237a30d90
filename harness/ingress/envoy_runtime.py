"""Values of Envoy's runtime keys, as its routes read them (tried with 1.40). It says OK to any other text, too."""

from __future__ import annotations

import re

from harness.errors import UsageError

_DENOMINATORS = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}
_NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?")
_FRACTION = re.compile(r'\{\s*"?numerator"?\s*:\s*([0-9]+)\s*(?:,\s*"?denominator"?\s*:\s*"?([A-Z_]+)"?\s*)?\}')


def value_of(share: float) -> str:
    """Whole percents as a number, which people read; else a numerator of ten thousand, or of a million.

    Raises UsageError for what is no share, or one that a millionth cannot tell from none or all.
    """
    if not 0.0 <= share <= 1.0:
        raise UsageError(f"a split gives the candidate between 0 % and 100 %, not {share:.0%}")
    millionths = round(share * 1_000_000)
    if millionths in (0, 1_000_000) and share != millionths / 1_000_000:
        raise UsageError(f"Envoy draws in steps of one in a million: {share!r} cannot be told from {round(share)}")
    if millionths % 10_000 == 0:
        return str(millionths // 10_000)
    if millionths % 100 == 0:
        return f'{{"numerator":{millionths // 100},"denominator":"TEN_THOUSAND"}}'
    return f'{{"numerator":{millionths},"denominator":"MILLION"}}'


def share_of(value: str) -> float | None:
    """None where it is not known what a route makes of the value: as a rule, the share of its own configuration.

    A number is a percentage, of which the whole part counts; a fraction is of a hundred unless it says otherwise.
    """
    if match := _NUMBER.fullmatch(value):
        return min(int(match[1]), 100) / 100
    match = _FRACTION.fullmatch(value.strip())
    if match is None or (match[2] or "HUNDRED") not in _DENOMINATORS:
        return None
    return min(int(match[1]) / _DENOMINATORS[match[2] or "HUNDRED"], 1.0)
