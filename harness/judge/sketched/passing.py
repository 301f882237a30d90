"""One pass over many samples: what is small is counted at once, of the rest some 20 bytes a request wait for pairing.

Then each stage is counted by itself (`settling`). Whatever the order of the rows, the counts are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from harness.judge.columns import ARMS, CANCELLED, OK, Ints
from harness.judge.sketched import reading, settling
from harness.judge.sketched.counts import Sender, StageCounts
from harness.judge.sketched.reading import KIND, METRICS, Reader, Rows
from harness.judge.sketched.settling import Failures, Kept
from harness.recording.ahead import ahead
from harness.recording.codes import CODES, THOUSANDTHS, Codes
from harness.types import Gate, StageRecord


@dataclass(frozen=True, slots=True)
class PassedStage:
    begin_ns: int
    counts: StageCounts


@dataclass(frozen=True, slots=True)
class Passed:
    rows: int
    stages: dict[int, PassedStage]
    bins: str = THOUSANDTHS.name


def counted(batches: Iterable[pa.RecordBatch], stages: Sequence[StageRecord], gates: Sequence[Gate]) -> Passed:
    """Batches with the columns of SAMPLES, as far as they are there. `stages` and `gates`: () unknown, so that all
    metrics are counted. What was done after a stage was decided has no part in it.
    """
    reader, found, total = Reader(), dict[int, _Stage](), 0
    records = {record.plan.index: record for record in stages}
    wanted = _wanted(gates)
    for rows in ahead(map(reader.rows, batches)):
        total += len(rows)
        for index in reading.distinct(rows.stage):
            mine = rows.take(rows.stage == index)
            record = records.get(index)
            if record is not None and record.decided_ns is not None:
                mine = mine.take(mine.done_ns <= record.decided_ns)
            if len(mine) and (record is not None or not records):
                found.setdefault(index, _Stage(index, wanted)).add(mine)
    for record in stages:
        found.setdefault(record.plan.index, _Stage(record.plan.index, wanted))
    settled = {}
    for index in sorted(found):
        settled[index] = found.pop(index).settle(reader, records.get(index))
    return Passed(total, settled)


def _wanted(gates: Sequence[Gate]) -> tuple[str, ...]:
    """What is gated, and what checks and information take."""
    named = {gate.metric.partition(".")[0] for gate in gates} | {"request_latency", "osl"}
    return tuple(metric for metric in METRICS if metric in named or not gates)


@dataclass(eq=False)
class _Stage:
    """What was seen of one stage so far."""

    index: int
    wanted: tuple[str, ...]
    what: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    due_ns: list[Ints] = field(default_factory=list)
    pair_id: list[Ints] = field(default_factory=list)
    codes: dict[str, list[Codes]] = field(default_factory=dict)
    wrong: list[tuple[Ints, Ints, Ints]] = field(default_factory=list)
    ends_ns: list[list[int]] = field(default_factory=lambda: [[] for _ in ARMS])
    lags: dict[int, Ints] = field(default_factory=dict)
    senders: dict[int, Sender] = field(default_factory=dict)
    versions: Counter[tuple[int, int]] = field(default_factory=Counter)
    errors: Counter[int] = field(default_factory=Counter)
    last_ns: int = 0
    backwards: int = 0
    flying_ns: int = 0
    due_known: bool = False

    def add(self, rows: Rows) -> None:
        self.what.append(rows.what)
        self.due_ns.append(rows.due_ns)
        self.pair_id.append(settling.small(rows.pair_id, self.index))
        for metric in self.wanted:
            codes = reading.codes(rows, metric)
            # A metric that nobody has takes no room.
            if metric in self.codes or codes.any():
                seen = sum(map(len, self.what)) - len(rows)
                missing = [np.zeros(seen, np.uint16)] if seen else []
                self.codes.setdefault(metric, missing).append(codes)
        self.last_ns = max(self.last_ns, int(rows.done_ns.max()))
        self.backwards += reading.backwards(rows)
        self.due_known |= bool(rows.due_known.any())
        left = rows.sent_ns >= 0
        self.flying_ns += int((rows.done_ns - rows.sent_ns)[left].sum())
        self._senders(rows)
        self._labels(rows)

    def _senders(self, rows: Rows) -> None:
        lags = reading.lags(rows)
        workers = reading.distinct(rows.worker)
        for worker in workers:
            mine = slice(None) if len(workers) == 1 else rows.worker == worker
            due = rows.due_ns[mine]
            seen = Sender(len(due), int(due.min()), int(due.max()))
            old = self.senders.get(worker, Sender(0, seen.first_ns, seen.last_ns))
            self.senders[worker] = Sender(
                old.requests + seen.requests, min(old.first_ns, seen.first_ns), max(old.last_ns, seen.last_ns)
            )
            counts = np.bincount(lags[mine], minlength=CODES)
            self.lags[worker] = self.lags[worker] + counts if worker in self.lags else counts

    def _labels(self, rows: Rows) -> None:
        arm, status = rows.what // KIND // 2, rows.status
        names = int(rows.version.max()) + 1
        answered = np.bincount((arm.astype(np.int64) * names + rows.version)[status == OK], minlength=len(ARMS) * names)
        for place in np.flatnonzero(answered).tolist():
            self.versions[divmod(place, names)] += int(answered[place])
        for error, count in enumerate(np.bincount(rows.error).tolist()):
            self.errors[error] += count
        ended = status != CANCELLED
        for number in range(len(ARMS)):
            done = rows.done_ns[ended & (arm == number)]
            if len(done):
                known = [*self.ends_ns[number], int(done.min()), int(done.max())]
                self.ends_ns[number] = [min(known), max(known)]
        failed = rows.failed
        if failed.any():
            kinds = rows.error[failed] * KIND + status[failed]
            self.wrong.append((arm[failed].astype(np.int64), kinds, rows.done_ns[failed]))

    def settle(self, reader: Reader, record: StageRecord | None) -> PassedStage:
        names, labels = reader.versions.known, reader.errors.known
        kept = Kept(self.what, self.due_ns, self.pair_id, self.codes)
        wrong = tuple(np.concatenate(part) for part in zip(*self.wrong, strict=True)) if self.wrong else None
        begin, counts = settling.settle(
            kept,
            self.index,
            record,
            failures=Failures(wrong, labels, self.ends_ns),
            last_ns=self.last_ns,
            versions={(arm, names[name]): n for (arm, name), n in self.versions.items()},
            errors={labels[error]: n for error, n in self.errors.items() if labels[error] and n},
            lags={worker: lags for worker, counts in self.lags.items() if (lags := settling.unpacked(counts)).total},
            senders=self.senders,
            flying_s=self.flying_ns / 1e9,
            backwards=self.backwards,
            due_known=self.due_known,
        )
        return PassedStage(begin, counts)
