"""The walk: after each run, has the level changed? What was told stays told, whatever comes later.

After each run every split of the runs since the last change is weighed by the likelihood ratio of two levels against
one, noise of unknown size:

    g = n ln(1 + (m1 - m0)^2 n0 n1 / (n S)),   S the sum of squares within both parts

and a change is told where g > h(n)^2. The values are clipped at 2.5 robust standard deviations of their median before:
so one wild run, or two, cannot look like a change, and a change loses little. A change of which there are more than
SHORT runs has had its chance before and needs e^(3/8) times the likelihood. Where neighbours resemble each other, a sum
says less: g is taken of (1 - r) / (1 + r) times the difference squared, r the lag-1 autocorrelation less 1/sqrt(n).

After a change the noise before it counts as up to BORROWED runs' worth of what is known about noise, unless neighbours
differ by more now; so a change back is found soon. Only the last WINDOW runs count: a segment may drift slowly.

Looking longer costs little: after N > 60 runs ever, e^(h^2 / 2) is raised by N / 60. So 2 % of series are told a change
that is none within 60 runs, and as many again each time the history is 2.7 times as long.

Work: the number of runs times 18 lengths, in numpy. Centre and unit of clipping are of all runs until then; in segments
of more than WINDOW runs they are renewed every so often.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.history.scales import Floats

Places = npt.NDArray[np.int64]
CLIP = 2.5
LEAST, LEAST_BEFORE, LEAST_AFTER = 8, 3, 2
"""Of runs: before the first answer, before a change, from it on."""
SHORT, LATE = 6, 0.75
USUAL = 60
WINDOW = 256
BORROWED = 10
LENGTHS = np.array([2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 19, 24, 32, 44, 60, 85, 120, 170])
FLOOR_SHARE = 0.75
"""Of the least noise, what each run of a series without any noise counts for."""
_NORMAL_MAD, _NORMAL_STEP = 1.4826, 0.954
_SHORTEST, _LONGEST = 64, 1024


@dataclass(frozen=True, slots=True)
class Alarm:
    """A change was told after run `found`; the first run of the new level, as it then looked, was `at`."""

    at: int
    found: int


@dataclass(frozen=True, slots=True)
class _Known:
    """What earlier segments say about noise: so many `runs` of standard deviation `noise`."""

    runs: int = 0
    noise: float = 0.0


def bar(n: Floats | float, ever: Places | int) -> Floats:
    """h(n)^2 by simulation, so that 2 % of series of 60 runs without a change are told one; `ever`: runs until then."""
    return np.asarray((3.77 + 8.0 / n) ** 2 + 2 * np.log(np.maximum(ever / USUAL, 1.0)), dtype=np.float64)


def walk(values: Floats, floor: float) -> list[Alarm]:
    """All alarms over a series without gaps, on the scale of comparison. `floor`: the least noise."""
    alarms: list[Alarm] = []
    start, known, seen = 0, _Known(), LEAST
    while seen <= len(values):
        last = min(len(values), seen + min(seen - start, _LONGEST if seen - start > WINDOW else _SHORTEST) - 1)
        alarm = _first(values, start, seen, last, floor, known)
        if alarm is None:
            seen = last + 1
            continue
        alarms.append(alarm)
        before = values[max(start, alarm.at - WINDOW) : alarm.at]
        known = _Known(min(len(before), BORROWED), max(_noise(before - np.median(before)), floor))
        start = alarm.at
        seen = max(alarm.found + 2, start + LEAST_BEFORE + LEAST_AFTER, start + LEAST - known.runs)
    return alarms


def _first(values: Floats, start: int, seen: int, last: int, floor: float, known: _Known) -> Alarm | None:
    """The first alarm of those after `seen` to `last` runs of a segment that begins at `start`."""
    origin = max(start, seen - WINDOW)
    end = np.arange(seen, last + 1) - origin
    begin = np.maximum(start, end + origin - WINDOW) - origin
    clipped = _Clipped.of(values[origin:last], end if seen - start <= WINDOW else end[:1], floor)
    series, unit, sums, squares = clipped.series(len(end)), clipped.unit, clipped.sums, clipped.squares
    whole = (end - begin).astype(np.float64)
    place = series * sums.shape[1]  # where each row of sums begins: one index is looked up faster than two
    until = sums.take(place + end)
    mean = (until - sums.take(place + begin)) / whole
    borrowed = known.runs * (np.maximum(known.noise, clipped.steps) / unit) ** 2
    own = squares[series, end] - squares[series, begin] - whole * mean**2 + whole * (FLOOR_SHARE * floor / unit) ** 2
    noise = own + borrowed  # about one level; two of them take `between` from it
    runs = whole + known.runs
    needed = bar(runs, end + origin)
    # A row for each length, which is the quicker way round.
    after = LENGTHS[:, None]
    split, before = np.maximum(end - after, begin), whole - after
    excess = until - sums.take(place + split) - mean * after
    between = excess * excess * (1 / after + 1 / np.maximum(before, 1))
    late = LENGTHS > SHORT
    short, long = (-np.expm1(-(needed + more) / runs) * noise for more in (0, LATE))
    lengths, rows = np.nonzero((between > np.where(late[:, None], long, short)) & (before >= LEAST_BEFORE))
    if len(rows) == 0:
        return None
    # Only of these few is it asked how much neighbours resemble each other: that makes a difference smaller.
    apart = between[lengths, rows]
    k, b, e = split[lengths, rows], begin[rows], end[rows]
    worth = clipped.worth(series[rows], (b, k, e), np.maximum(own[rows] - apart, 1e-9))
    g = runs[rows] * np.log1p(worth * apart / np.maximum(noise[rows] - apart, 1e-9))
    over = g - needed[rows] - LATE * late[lengths]
    told = rows[over > 0]
    if len(told) == 0:
        return None
    row = int(told.min())
    best = np.argmax(np.where(rows == row, over, -np.inf))
    return Alarm(int(origin + k[best]), seen + row - 1)


@dataclass(frozen=True, slots=True)
class _Clipped:
    """The runs of a segment less their centre, in their unit, clipped: a row for each number seen, or one for all.

    `sums`, `squares`, `products` (of neighbours) are cumulative; `steps`: noise by what neighbours differ.
    """

    unit: Floats
    steps: Floats
    sums: Floats
    squares: Floats
    products: Floats

    @classmethod
    def of(cls, values: Floats, seen: Places, floor: float) -> _Clipped:
        """With the centre and the unit of the first runs, as many as `seen` says for each row."""
        centre = _running_medians(values, seen)[:, None]
        unit = np.maximum(_NORMAL_MAD * _medians(np.abs(values - centre), seen), floor)
        steps = _running_medians(np.abs(np.diff(values)), seen - 1) / _NORMAL_STEP
        z = np.clip((values - centre) / unit[:, None], -CLIP, CLIP)
        products = np.zeros_like(z)
        products[:, 1:] = z[:, 1:] * z[:, :-1]
        return cls(unit, steps, _cumulative(z), _cumulative(z * z), _cumulative(products))

    def series(self, rows: int) -> Places:
        return np.arange(rows) if len(self.unit) == rows else np.zeros(rows, np.int64)

    def worth(self, rows: Places, parts: tuple[Places, Places, Places], within: Floats) -> Floats:
        """What a run is worth: (1 - r) / (1 + r). `parts`: where the segments begin, split and end."""
        begin, split, end = parts
        shared = np.zeros(len(begin))
        for first, last in ((begin, split), (split, end)):
            mean = (self.sums[rows, last] - self.sums[rows, first]) / (last - first)
            shared += self.products[rows, last] - self.products[rows, first + 1] - (last - first - 1) * mean**2
        r = np.clip(shared / within - 1 / np.sqrt(end - begin), 0.0, 0.9)
        return np.asarray((1 - r) / (1 + r), dtype=np.float64)


def _running_medians(values: Floats, seen: Places) -> Floats:
    """Of the first `seen` values, for each number in it; each is one more than that before."""
    first = int(seen[0])
    ordered = sorted(values[:first].tolist())
    found = [(ordered[(first - 1) // 2] + ordered[first // 2]) / 2]
    for n in range(first + 1, first + len(seen)):
        insort(ordered, float(values[n - 1]))
        found.append((ordered[(n - 1) // 2] + ordered[n // 2]) / 2)
    return np.asarray(found, dtype=np.float64)


def _medians(rows: Floats, seen: Places) -> Floats:
    """Of the first `seen` values of each row."""
    ordered = np.sort(np.where(np.arange(rows.shape[1]) < seen[:, None], rows, np.inf), axis=1)
    number = np.arange(len(rows))
    return np.asarray((ordered[number, (seen - 1) // 2] + ordered[number, seen // 2]) / 2, dtype=np.float64)


def _noise(around: Floats) -> float:
    return _NORMAL_MAD * float(np.median(np.abs(around)))


def _cumulative(rows: Floats) -> Floats:
    """Sums of the first 0, 1, 2 ... values of each row."""
    return np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows, axis=1)], axis=1)
