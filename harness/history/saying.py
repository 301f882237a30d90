"""What a check says, in one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from harness.types.history import Change, Scale


@dataclass(frozen=True, slots=True)
class Measured:
    """`effect`, `interval` and `smallest` by `scale`; `sure`: of each end of the interval; `sign`: 1: more is worse."""

    metric: str
    unit: str
    scale: Scale
    before: float
    after: float
    effect: float
    interval: tuple[float, float]
    smallest: float
    sure: float
    sign: int
    runs: int
    repeats: int

    @property
    def effect_unit(self) -> str:
        return effect_unit(self.scale, self.unit)

    @property
    def mild(self) -> float:
        """The end of the interval that is the least worse."""
        return self.interval[0] if self.sign > 0 else self.interval[1]

    @property
    def least(self) -> str:
        if self.scale == "ratio":
            return f"{self.smallest * 100:.3g} %"
        return _points(self.smallest) if self.scale == "share" else _value(self.smallest, self.unit)

    @property
    def beginning(self) -> str:
        against = f"the {self.runs} runs before" if self.runs > 1 else "the run before"
        over = "" if self.repeats == 1 else f" over {self.repeats} repeats"
        levels = f"{_value(self.after, self.unit)} against {_value(self.before, self.unit)}"
        return f"{self.metric} is {_effect(self.scale, self.unit, self.effect)}{over} than in {against} ({levels})"


def effect_unit(scale: Scale, unit: str) -> str:
    return {"ratio": "ratio", "share": "pp"}.get(scale, unit)


def too_few(metric: str, runs: int, more: int, changed: bool) -> str:
    since = " since its last change" if changed else ""
    have = f"only {_count(runs, 'run')}" if runs else "no run"
    return f"{metric} has {have} to compare with{since}: {_count(more, 'more run')} would do"


def became_worse(seen: Measured) -> str:
    mild = _effect(seen.scale, seen.unit, seen.mild)
    return f"{seen.beginning}; {_percent(seen.sure)} sure it is at least {mild}, {_smallest(seen)}"


def lasting(metric: str, unit: str, change: Change, between: tuple[str, str]) -> str:
    """`between`: the commits, or the runs."""
    size = _effect(change.scale, unit, change.effect)
    return (
        f"{metric} has become {size} ({_value(change.after, unit)} against {_value(change.before, unit)}): it began "
        f"between {between[0]} and {between[1]}, and has lasted long enough to be told with this run"
    )


def passed(seen: Measured, told: int) -> str:
    """`told`: 1 surely worse, -1 surely better, 0 neither."""
    if told > 0:
        return f"{seen.beginning}, surely, but that is within the smallest effect that matters ({seen.least})"
    if told < 0:
        return f"{seen.beginning}: better"
    return f"{seen.beginning}: within what runs differ by; {_smallest(seen)}"


def seen_before(seen: Measured, times: int) -> str:
    return f"{seen.beginning}, but {times} of these were as bad without any change: a lone run cannot tell; repeat it"


def disagree(seen: Measured) -> str:
    return f"{seen.beginning}, but not most of its repeats are: a wild run among them makes it so; repeat it"


def not_told(seen: Measured, repeats: int | None) -> str:
    more = f"{repeats} repeats of this run would do" if repeats else "that takes more runs in the history"
    return f"{seen.beginning}: runs differ too much to tell {seen.least}; {more}"


def _smallest(seen: Measured) -> str:
    return f"smallest effect that matters {seen.least}"


def _effect(scale: Scale, unit: str, effect: float) -> str:
    if scale == "ratio":
        size = f"{abs(effect - 1) * 100:.1f} %"
        return f"{size} {'higher' if effect >= 1 else 'lower'}"
    size = _points(abs(effect)) if scale == "share" else _value(abs(effect), unit)
    return f"{size} {'higher' if effect >= 0 else 'lower'}"


def _points(share: float) -> str:
    points = f"{share * 100:.2g}"
    return f"{points} percentage point{'' if points == '1' else 's'}"


def _percent(share: float) -> str:
    return f"{share * 100:.4g} %"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value:.3g} s" if abs(value) >= 1 else f"{value * 1e3:.3g} ms"
    if unit in ("pp", "share", "rate"):
        return f"{value * 100:.3g} %"
    return f"{value:.4g} {unit}".rstrip() if unit not in ("", "ratio", "1") else f"{value:.4g}"
