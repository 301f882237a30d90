"""Going on with a run that died: the stages that it had completed count, and the rest is carried out anew.

Sound only where the new run is the same experiment on the same things: same scenario, seed, software, machine, servers
and model versions, and no long break. Rows of the completed stages are copied into the new folder, as parts of their
own, and the new run's clock begins after them; so the final verdict is made of all of it, as if there had been none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harness.errors import RecordingError, UsageError, WorldError
from harness.judge import MOST_SAMPLES, evidence_of, judge
from harness.judge.errors.recovery import RECOVERED
from harness.recording import (
    META_NAME,
    NO_WORKER,
    SCHEMAS,
    Recording,
    StreamWriter,
    is_operation,
    parquet_path,
    read_meta,
    stage_plans,
    stage_records,
    stream_path,
)
from harness.run.folder import RunFolder
from harness.run.journal import read
from harness.run.put_back import Say
from harness.run.recover import recover
from harness.run.served import differences
from harness.scenario import Scenario
from harness.types import StagePlan, StageRecord, StageVerdict

LONGEST_BREAK_S = 86_400.0
READ_ON_NS = 5_000_000_000
"""Readings of the moments after the last completed stage belong to it, too: a counter is read before and after."""
SAME = ("scenario", "seed", "prompts", "asked", "tokens", "gates", "plans", "software", "host")
"""Of run.json: what makes it the same experiment."""


@dataclass(frozen=True)
class Carried:
    """What the run in `folder` had completed: its first `stages`, each of which said promote. `offset_ns`: where the
    new run's clock begins. `served`: what served then.
    """

    folder: Path
    stages: tuple[StageRecord, ...]
    verdicts: tuple[StageVerdict, ...]
    offset_ns: int
    break_s: float
    served: Mapping[str, Any]

    @property
    def done(self) -> int:
        """The index of the first stage that is carried out."""
        return len(self.stages)

    def check(self, served: Mapping[str, Any]) -> None:
        """Raises UsageError where something else serves now (see `served.served`)."""
        if found := differences(self.served, served):
            raise UsageError(f"{self.folder}: cannot be resumed: {'; '.join(found)}")

    def into(self, folder: RunFolder) -> None:
        """Copy the rows and the stages. Before anybody else writes into `folder`; the sampler has to write to
        `readings_path`. Raises RecordingError.
        """
        for name in SCHEMAS:
            worker = NO_WORKER if name == "scores" else None  # whose own file is written by the run itself
            _copy(self.folder, name, stream_path(folder.path, name, worker), self._mine(name))
        folder.meta["resumed"] = {
            "from": self.folder.name, "stages": self.done, "offset_ns": self.offset_ns, "break_s": round(self.break_s),
        }  # fmt: skip
        folder.set_stages(list(self.stages))

    def _mine(self, name: str) -> Callable[[pa.RecordBatch], Any]:
        if name == "readings":
            return lambda rows: pc.less(rows["t_ns"], self.offset_ns - 10**9)
        if name == "chunks":
            return lambda rows: pc.less(rows["pair_id"], self.done << 32)
        return lambda rows: pc.less(rows["stage"], self.done)


def readings_path(folder: Path, carried: Carried | None) -> Path:
    """Where the parent's readings go: behind those that are carried, in whose order they are read."""
    return stream_path(folder, "readings", NO_WORKER if carried else None)


def go_on(path: Path, scenario: Scenario, about: Mapping[str, Any], say: Say) -> Carried:
    """Put back what the run in `path` left, and take over what it had completed. `about`: what `describe` and `asked`
    say of the scenario now.

    Raises UsageError, one line, where it would not be sound; WorldError where it could not be put back.
    """
    _refuse(path, scenario)
    meta = read_meta(path)
    _refuse_another(path, meta, json.loads(json.dumps(about)))
    _, failures = recover(path, say)
    if failures:
        raise WorldError(f"{path}: NOT PUT BACK: {'; '.join(failures)}")
    meta = read_meta(path)
    records = stage_records(meta)
    done = completed(records, stage_plans(meta))
    verdicts = judge(evidence_of(Recording.open(path, most=MOST_SAMPLES))).stages
    for record, verdict in zip(records, verdicts, strict=True):
        if record.end_ns is not None and verdict.verdict != "promote":
            raise _no(path, f"stage {record.plan.index + 1} said {verdict.verdict}: {verdict.reason}")
    if not done:
        raise _no(path, "no stage of it had come to its end: run the scenario anew")
    end_ns = max(record.end_ns or 0 for record in records[:done])
    break_s = _break_s(path, meta, end_ns)
    last_ns, answered = _seen(path, done)
    served = {name: dict(arm) if arm else None for name, arm in meta["served"].items()}
    if baseline := served.get("baseline"):
        baseline["answered"] += answered
    say(f"{path}: {done} of {len(stage_plans(meta))} stages count; going on after a break of {break_s:.0f} s")
    begun_ns = records[done].begin_ns if done < len(records) else None
    offset_ns = max(end_ns, last_ns, _recovered(path, begun_ns)) + READ_ON_NS + 10**9
    return Carried(path.resolve(), records[:done], verdicts[:done], offset_ns, break_s, served)


def completed(records: Sequence[StageRecord], plans: Sequence[StagePlan]) -> int:
    """How many stages need not be carried out again. At least the last one is: it sets the traffic that the run's end
    goes by. What only prepares a stage goes with it, and the periods of a sequential stage go together.
    """
    done = 0
    while done < min(len(records), len(plans) - 1) and records[done].end_ns is not None:
        done += 1
    while done and (
        plans[done - 1].purpose in ("warm-up", "alone") or plans[done - 1].period < plans[done - 1].periods
    ):
        done -= 1
    return done


def asked(scenario: Scenario) -> str:
    """A digest of what is sent, and by what it is scored, as far as `describe` has only its names."""
    digest = hashlib.sha256()
    inputs = [dict(given) for given in scenario.load.given]
    expected = [prompt.expected for prompt in scenario.prompts]
    digest.update(json.dumps([scenario.trace_ns, inputs, expected, scenario.tokenizer], default=str).encode())
    for name, scorer in sorted(scenario.scorers.items()):
        named = [(scorer.use or "").rpartition(":")[0], scorer.schema_file or "", *scorer.command]
        files = [Path(scorer.folder, file) for file in named if file]
        digest.update(name.encode() + b"".join(file.read_bytes() for file in files if file.is_file()))
    return digest.hexdigest()


def _refuse(path: Path, scenario: Scenario) -> None:
    """What is never resumed."""
    if not (path / META_NAME).is_file():
        raise UsageError(f"{path}: no run.json there: give the folder of a run, such as reports/20260101T120000Z-name")
    if is_operation(path):
        raise _no(path, "only a comparison can be: run the operation again, it finds how far things are")
    if scenario.target.server is not None or scenario.candidate.server is not None:
        raise _no(path, "its embedded Triton ended with it, and what it measured there")
    if scenario.deploy is not None:
        raise _no(path, "it brings its candidate under load, which is a part of what is judged")
    if any(entry.action == "run.end" and entry.state == "done" for entry in read(path)):
        raise _no(path, "it came to its own end: triton-canary judge tells its verdict again")


def _refuse_another(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key in SAME:
        if then.get(key) != now.get(key):
            raise _no(path, f"{_difference(key, then.get(key), now.get(key))}")
    for worker in then.get("workers", []):
        if not worker.get("local"):
            raise _no(path, f"its load came from another host, {worker.get('host')}, whose clock is not known any more")
        if worker.get("lost_ns") is not None or worker.get("damaged"):
            raise _no(path, f"it had lost load worker {worker.get('worker')}, or a file of it")
    if "served" not in then:
        raise _no(path, "it died before it had noted what serves")


def _difference(key: str, then: Any, now: Any) -> str:
    """The first thing that differs, by its full name."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name in sorted({*then, *now}):
            if then.get(name) != now.get(name):
                return _difference(f"{key}.{name}", then.get(name), now.get(name))
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for number, (one, other) in enumerate(zip(then, now, strict=True)):
            if one != other:
                return _difference(f"{key}.{number}", one, other)
    return f"{key} was {json.dumps(then)}, now it is {json.dumps(now)}"


def _break_s(path: Path, meta: Mapping[str, Any], end_ns: int) -> float:
    """Since the end of the last completed stage."""
    began_ns = int(meta.get("resumed", {}).get("offset_ns", 0))
    try:
        started = datetime.fromisoformat(meta["started_utc"])
    except (KeyError, TypeError, ValueError) as error:
        raise RecordingError(f"{path / META_NAME}: started_utc: expected a time: {error}") from error
    break_s = (datetime.now(UTC) - started).total_seconds() - (end_ns - began_ns) / 1e9
    if break_s < -60.0:
        raise _no(path, f"by this machine's clock its last stage ends in {-break_s:.0f} s from now")
    if break_s > LONGEST_BREAK_S:
        raise _no(path, f"its last completed stage ended {break_s / 3600:.0f} h ago, and a day is the most")
    return max(break_s, 0.0)


def _seen(path: Path, done: int) -> tuple[int, int]:
    """When the last request of the completed stages ended, and how many of them the baseline has answered."""
    last_ns, answered = 0, 0
    for rows in _batches(path, "samples", lambda rows: pc.less(rows["stage"], done)):
        last_ns = max(last_ns, pc.max(rows["done_ns"]).as_py())
        mine = pc.and_(pc.equal(rows["arm"], "baseline"), pc.equal(rows["status"], "ok"))
        answered += pc.sum(mine).as_py()
    return last_ns, answered


def _recovered(path: Path, until_ns: int | None) -> int:
    """When the last answer was known to whether an arm of a completed stage still served, which comes after it."""
    last_ns = 0
    for rows in _batches(path, "readings", lambda rows: pc.starts_with(rows["metric"], RECOVERED)):
        times = [t_ns for t_ns in rows["t_ns"].to_pylist() if until_ns is None or t_ns < until_ns]
        last_ns = max(last_ns, *times, 0)
    return last_ns


def _copy(source: Path, name: str, target: Path, mine: Callable[[pa.RecordBatch], Any]) -> None:
    """Nothing is made where there is nothing."""
    writer: StreamWriter | None = None
    try:
        for rows in _batches(source, name, mine):
            writer = writer or StreamWriter(target, SCHEMAS[name])
            writer.write(rows)
    finally:
        if writer is not None:
            writer.close()


def _batches(source: Path, name: str, mine: Callable[[pa.RecordBatch], Any]) -> Any:
    """The rows of a sealed file that are wanted, piece by piece."""
    path = parquet_path(source, name)
    if not path.exists():
        return
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(1 << 16):
                rows = batch.cast(SCHEMAS[name])
                if (kept := rows.filter(mine(rows))).num_rows:
                    yield kept
    except (pa.ArrowException, OSError) as error:
        raise RecordingError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error


def _no(path: Path, why: str) -> UsageError:
    return UsageError(f"{path}: cannot be resumed: {why}")
