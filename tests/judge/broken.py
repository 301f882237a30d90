"""One sound stage in which every gate holds, and the ways in which a recording of it can be broken.

Everything that can be kept of a run is there: requests, chunks, outputs, scores, readings. Times and resources are seen
in a stage of many requests (`loaded`), outputs in one of few (`answering`): both are broken in the same ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from harness.judge import Evidence
from harness.recording.schema import CHUNKS, OUTPUTS, READINGS, SCORES
from harness.types import Output, StageRecord
from tests.judge.worlds import VERSIONS, S, bulk, plan, table

ARMS = ("baseline", "candidate")
TOKENS, K, WIDTH = 16, 5, 16
TTFT_S, TPOT_S, NOISE = 0.05, 0.01, 0.1
GIB = 2**30


@dataclass(frozen=True)
class Parts:
    """The files of a recording, and its only stage. None: the file is not there."""

    samples: pa.Table
    chunks: pa.Table | None
    outputs: pa.Table | None
    scores: pa.Table | None
    readings: pa.Table | None
    record: StageRecord

    def evidence(self) -> Evidence:
        return Evidence.from_tables(
            self.samples,
            self.outputs,
            stages=[self.record],
            versions=VERSIONS,
            planned=1,
            chunks=self.chunks,
            scores=self.scores,
            readings=self.readings,
            devices={arm: f"m/{version}" for arm, version in VERSIONS.items()},
            gpus={"baseline": ("gpu0",), "candidate": ("gpu1",)},
        )


Break = Callable[[Parts], Parts]


def with_columns(rows: pa.Table, **values: np.ndarray | list[object]) -> pa.Table:
    for name, column in values.items():
        index = rows.schema.get_field_index(name)
        rows = rows.set_column(index, rows.schema.field(name), pa.array(column, rows.schema.field(name).type))
    return rows


def times(rows: pa.Table, name: str) -> np.ndarray:
    return np.array(rows[name].to_numpy())


def of_arm(rows: pa.Table, arm: str) -> np.ndarray:
    return np.array(rows["arm"].to_numpy(zero_copy_only=False) == arm)


def where(rows: pa.Table | None, keep: Callable[[pa.Table], np.ndarray]) -> pa.Table | None:
    return None if rows is None else rows.filter(pa.array(keep(rows)))


def _chunks(samples: pa.Table, noise: float = 0.03) -> pa.Table:
    """The chunks of each answer lie evenly between its first and its last one, with some noise."""
    rng = np.random.default_rng(9)
    first, done = times(samples, "first_ns"), times(samples, "done_ns")
    share = np.arange(TOKENS) / (TOKENS - 1) + rng.uniform(-noise, noise, (len(first), TOKENS))
    at = first[:, None] + np.round(np.clip(share, 0, 1) * (done - first)[:, None]).astype(np.int64)
    each = pa.array(np.repeat(np.arange(len(first)), TOKENS))
    columns = [samples["pair_id"].take(each), samples["arm"].take(each), pa.array(at.ravel())]
    return pa.table(columns, schema=CHUNKS)


def _samples(n: int, rate: float, slower: Mapping[str, float]) -> pa.Table:
    rng = np.random.default_rng(1)
    due = np.arange(n) / rate
    arms = []
    shared = rng.normal(0, NOISE / 2, n)
    for arm in ARMS:
        ttft, tpot = (
            base * slower.get(arm, 1.0) * np.exp(shared + rng.normal(0, NOISE, n)) for base in (TTFT_S, TPOT_S)
        )
        rows = bulk(arm, due, ttft + tpot * (TOKENS - 1))
        first = times(rows, "due_ns") + np.round(ttft * S).astype(np.int64)
        osl = TOKENS + rng.integers(-1, 2, n)
        names = [f"{arm}-{i}" for i in range(n)]
        arms.append(with_columns(rows, first_ns=first, osl=osl, request_id=names))
    return pa.concat_tables(arms)


def _readings(seconds: float) -> pa.Table:
    rng = np.random.default_rng(2)
    rows: list[tuple[object, ...]] = []
    for gpu in ("gpu0", "gpu1"):
        joules = 1e6 + np.cumsum(250 * (1 + rng.normal(0, 0.02, round(seconds))))
        for i, energy in enumerate(joules.tolist()):
            at = (i + 1) * S
            rows.append((at, "nvml", gpu, "gpu.memory.used", 20.0 * GIB, "bytes"))
            rows.append((at, "nvml", gpu, "gpu.memory.total", 80.0 * GIB, "bytes"))
            rows.append((at, "nvml", gpu, "gpu.energy", energy, "J"))
    return table(rows, READINGS)


def _parts(n: int, rate: float, slower: Mapping[str, float] | None = None) -> Parts:
    samples = _samples(n, rate, slower or {})
    record = StageRecord(plan(0, "paired", n / rate, rate=rate), 0, end_ns=round(n / rate * S) + S)
    return Parts(samples, _chunks(samples), None, None, _readings(n / rate), record)


def loaded(slower: Mapping[str, float] | None = None) -> Parts:
    """1,600 pairs in 320 s."""
    return _parts(1600, 5.0, slower)


def answering() -> Parts:
    """80 pairs in 160 s, each of another prompt, with all that an engine can say of an answer."""
    parts, rng = _parts(80, 0.5), np.random.default_rng(3)
    rows, marks = [], []
    for pair in range(80):
        own = rng.normal(0, 2, (TOKENS, 20))
        vector = rng.normal(0, 1, WIDTH)
        for kind in ("generated", "scored"):
            for arm in ARMS:
                logits = own + rng.normal(0, 0.01, own.shape)
                rows.append(_output(pair, arm, kind, logits, vector))
        marks += [(0, pair, arm, "exact", float(pair % 7 > 0), "") for arm in ARMS]
    asked = with_columns(parts.samples, assignment=["score"] * parts.samples.num_rows)
    samples = pa.concat_tables([parts.samples, asked])
    return replace(parts, samples=samples, outputs=table(rows, OUTPUTS), scores=table(marks, SCORES))


def _output(pair: int, arm: str, kind: str, logits: np.ndarray, vector: np.ndarray) -> Output:
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    order = np.argsort(-logprobs, axis=1)[:, :K]
    likeliest = np.take_along_axis(logprobs, order, 1)
    tokens = list(range(pair * TOKENS, (pair + 1) * TOKENS))
    order[:, 0] = tokens
    return Output(
        0, pair, arm, kind, " ".join(map(str, tokens)), "", "stop", tokens, K, order.ravel().tolist(),
        likeliest.ravel().tolist(), pair, float(likeliest[:, 0].sum()), TOKENS, vector=vector.tolist(),
    )  # fmt: skip


# -------------------------------------------------------------- how it breaks


def everywhere(parts: Parts, keep: Callable[[pa.Table], np.ndarray]) -> Parts:
    """Without the rows of requests, chunks, outputs and scores for which `keep` is false."""
    samples = where(parts.samples, keep)
    assert samples is not None
    files = (where(rows, keep) for rows in (parts.chunks, parts.outputs, parts.scores))
    return Parts(samples, *files, parts.readings, parts.record)


def without(*arms: str) -> Break:
    return lambda parts: everywhere(parts, lambda rows: ~np.isin(rows["arm"].to_numpy(zero_copy_only=False), arms))


def one_request(parts: Parts) -> Parts:
    return everywhere(parts, lambda rows: times(rows, "pair_id") == 0)


def stopped(arm: str) -> Break:
    """From half-way on nothing came of one arm any more."""
    return lambda parts: everywhere(parts, lambda rows: ~of_arm(rows, arm) | _first_half(parts, rows))


def _first_half(parts: Parts, rows: pa.Table) -> np.ndarray:
    return np.array(times(rows, "pair_id") < times(parts.samples, "pair_id").max() / 2)


def cut_short(parts: Parts) -> Parts:
    """The run was killed half-way: it has no end, no decision."""
    half = everywhere(parts, lambda rows: _first_half(parts, rows))
    last = int(times(half.samples, "done_ns").max())
    return replace(half, record=replace(parts.record, end_ns=last))


def answered(status: str, *arms: str) -> Break:
    """All requests of these arms ended so; of what is no answer there is no output."""

    def change(parts: Parts) -> Parts:
        mine = np.isin(parts.samples["arm"].to_numpy(zero_copy_only=False), arms)
        statuses = np.where(mine, status, "ok").tolist()
        errors = np.where(mine & (status == "error"), "Unavailable", "").tolist()
        first = np.where(mine, -1, times(parts.samples, "first_ns"))
        rest = everywhere(parts, lambda rows: ~np.isin(rows["arm"].to_numpy(zero_copy_only=False), arms))
        return replace(rest, samples=with_columns(parts.samples, status=statuses, error=errors, first_ns=first))

    return change


def clock_stepped(*arms: str) -> Break:
    """In the middle third the clock that stamps answers was 30 s behind."""

    def change(parts: Parts) -> Parts:
        def back(rows: pa.Table, name: str) -> np.ndarray:
            at = times(rows, name)
            third = at.max() / 3
            mine = np.isin(rows["arm"].to_numpy(zero_copy_only=False), arms) & (at > third) & (at < 2 * third)
            return np.where(mine, at - 30 * S, at)

        samples = with_columns(
            parts.samples, first_ns=back(parts.samples, "first_ns"), done_ns=back(parts.samples, "done_ns")
        )
        assert parts.chunks is not None
        chunks = with_columns(parts.chunks, t_ns=back(parts.chunks, "t_ns"))
        return replace(parts, samples=samples, chunks=chunks)

    return change


def repeated(parts: Parts) -> Parts:
    """Every row twice, as when a file is written again behind itself."""
    files = (parts.samples, parts.chunks, parts.outputs, parts.scores)
    return Parts(
        *(None if rows is None else pa.concat_tables([rows, rows]) for rows in files),  # type: ignore[arg-type]
        parts.readings,
        parts.record,
    )


def of_one_name(parts: Parts) -> Parts:
    """All requests have the same pair id and request id."""

    def named(rows: pa.Table | None) -> pa.Table | None:
        return None if rows is None else with_columns(rows, pair_id=np.zeros(rows.num_rows, np.int64))

    samples = with_columns(parts.samples, request_id=["r"] * parts.samples.num_rows)
    return Parts(
        named(samples), *(named(rows) for rows in (parts.chunks, parts.outputs, parts.scores)),  # type: ignore[arg-type]
        parts.readings, parts.record,
    )  # fmt: skip


def ninety_to_ten(mode: str) -> Break:
    """A stage that says it is a comparison, and gave the candidate every tenth request."""

    def change(parts: Parts) -> Parts:
        def dealt(rows: pa.Table) -> np.ndarray:
            tenth = times(rows, "pair_id") % 10 == 0
            return np.where(of_arm(rows, "candidate"), tenth, ~tenth | (mode == "paired"))

        fewer = everywhere(parts, dealt)
        rate = parts.record.plan.rate
        return replace(fewer, record=replace(parts.record, plan=replace(parts.record.plan, mode=mode, rate=rate)))  # type: ignore[arg-type]

    return change


def unknown(*arms: str) -> Break:
    """Nobody stamped the requests of these arms, what they gave is not a number, and what was read is none."""

    def change(parts: Parts) -> Parts:
        def no_time(rows: pa.Table, name: str) -> np.ndarray:
            return np.where(np.isin(rows["arm"].to_numpy(zero_copy_only=False), arms), -1, times(rows, name))

        stamps = {name: no_time(parts.samples, name) for name in ("sent_ns", "first_ns", "done_ns", "osl")}
        assert parts.chunks is not None
        assert parts.readings is not None
        broken = replace(
            parts,
            samples=with_columns(parts.samples, **stamps),
            chunks=with_columns(parts.chunks, t_ns=no_time(parts.chunks, "t_ns")),
            readings=with_columns(parts.readings, value=np.full(parts.readings.num_rows, np.nan)),
        )
        if parts.outputs is None or parts.scores is None:
            return broken
        mine = np.isin(parts.outputs["arm"].to_numpy(zero_copy_only=False), arms)
        lists = {
            name: [
                [float("nan")] * len(values) if bad else values
                for bad, values in zip(mine, parts.outputs[name].to_pylist(), strict=True)
            ]
            for name in ("topk_logprobs", "vector")
        }
        outputs = with_columns(parts.outputs, logprob=np.where(mine, np.nan, times(parts.outputs, "logprob")), **lists)
        outputs = with_columns(outputs, finish_reason=np.where(mine, "", outputs["finish_reason"].to_numpy()).tolist())
        scores = with_columns(parts.scores, score=np.full(parts.scores.num_rows, np.nan))
        return replace(broken, outputs=outputs, scores=scores)

    return change


def interleaved(change: Break) -> Break:
    """Broken in that way after every other request was dealt to either arm."""

    def dealt(parts: Parts) -> Parts:
        half = everywhere(parts, lambda rows: of_arm(rows, "candidate") == (times(rows, "pair_id") % 2 == 1))
        return change(replace(half, record=replace(half.record, plan=replace(half.record.plan, mode="interleaved"))))

    return dealt


def constant(parts: Parts) -> Parts:
    """Every request took exactly as long as every other, and chunks came like a clock's ticks."""
    due, first, done = times(parts.samples, "due_ns"), round(TTFT_S * S), round((TTFT_S + TPOT_S * (TOKENS - 1)) * S)
    osl = np.full(len(due), TOKENS)
    samples = with_columns(parts.samples, first_ns=due + first, done_ns=due + done, osl=osl)
    return replace(parts, samples=samples, chunks=_chunks(samples, 0.0))


def files_lost(parts: Parts) -> Parts:
    """Only the requests were kept."""
    return replace(parts, chunks=None, outputs=None, scores=None, readings=None)


def absurd(parts: Parts) -> Parts:
    """One request of each arm is stamped in another epoch: fifty years later."""
    late = {
        name: np.where(times(parts.samples, "pair_id") == 7, 2**60 + times(parts.samples, name), times(parts.samples,
        name)) for name in ("due_ns", "sent_ns", "first_ns", "done_ns")
    }  # fmt: skip
    return replace(parts, samples=with_columns(parts.samples, **late))


# -------------------------------------------------------------- which arm is which


def worse(parts: Parts) -> Parts:
    """The candidate's GPU needs half as much again, and half of its answers are wrong."""
    assert parts.readings is not None
    mine = parts.readings["device"].to_numpy(zero_copy_only=False) == "gpu1"
    value = times(parts.readings, "value")
    readings = with_columns(parts.readings, value=np.where(mine, 1.5 * value, value))
    if parts.scores is None:
        return replace(parts, readings=readings)
    wrong = of_arm(parts.scores, "candidate") & (times(parts.scores, "pair_id") % 2 == 0)
    scores = with_columns(parts.scores, score=np.where(wrong, 0.0, times(parts.scores, "score")))
    return replace(parts, readings=readings, scores=scores)


def swapped(evidence: Evidence) -> Evidence:
    """The same recording with the names of its arms exchanged."""
    other = dict(zip(ARMS, reversed(ARMS), strict=True))
    number = np.array([1, 0, 2], np.int8)
    samples, gaps = (
        None if rows is None else replace(rows, arm=number[rows.arm]) for rows in (evidence.samples, evidence.gaps)
    )
    assert samples is not None
    scores = {
        scorer: {(stage, pair, other[arm]): score for (stage, pair, arm), score in marks.items()}
        for scorer, marks in evidence.marks.scores.items()
    }
    return replace(
        evidence,
        samples=samples,
        gaps=gaps,
        outputs=tuple(replace(answer, arm=other[answer.arm]) for answer in evidence.outputs),
        marks=replace(evidence.marks, scores=scores),
        versions={other[arm]: version for arm, version in evidence.versions.items()},
        devices={other[arm]: device for arm, device in evidence.devices.items()},
        gpus={other[arm]: own for arm, own in evidence.gpus.items()},
    )
