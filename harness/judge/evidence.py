"""What the judge is given: samples, outputs, stages, gates. Pure: no file is opened here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from harness.judge.columns import BASELINE, CANDIDATE, OK, Columns
from harness.judge.metrics import default_gates, normalise
from harness.judge.planning import calibrated
from harness.judge.quality.marks import Marks, marks
from harness.judge.quality.outputs import Answer, answers, seen
from harness.judge.times.gaps import gaps
from harness.recording import Recording, stage_plans, stage_records
from harness.recording import gates as recorded_gates
from harness.recording.imported import Imported, imported
from harness.recording.steps import Pipeline, pipelines
from harness.types import Gate, Mode, StagePlan, StageRecord


@dataclass(frozen=True, slots=True)
class LoadWorker:
    """One load worker. `lost_ns` is when it died or fell silent, from the run's start (None: it did not), and `reason`
    what it did, as "was silent for 15 s"; `done`: stages of which it had sent its share by then. `damaged`: files of it
    that did not come whole. `clock_error_s`: how well its clock is known.
    """

    worker: int
    host: str = ""
    lost_ns: int | None = None
    reason: str = ""
    done: tuple[int, ...] = ()
    damaged: tuple[str, ...] = ()
    clock_error_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ingress:
    """What decided who gets a request: `routers` of them, each giving in `turns` (a weighted round robin) or not."""

    routers: int = 1
    turns: bool = False


@dataclass(frozen=True)
class Evidence:
    """Everything a verdict is made of.

    `gates` empty: the defaults of `metrics.default_gates` (see `rules`). `planned`: number of stages planned,
    0 unknown. `versions`: the version that each arm's answers should name, where known. `finished`: the run
    came to its own end. `seed` fixes every resampling. `guarded`: the `model/version` at which requests were
    looked for that the run did not send; "" if at none. `devices`: what readings call each arm, `model/version`.
    `urls`: the address of each arm, where known. `gpus`: what readings call the GPUs that serve one arm alone.
    `workers`: the load workers that run.json lists. `pipelines`: the steps of the arms that are ensembles. `plans`: the
    stages of the whole plan, () unknown. `calibrated`: what is to be said of the rig's last calibration, None: nothing.
    `marks`: what scorers gave the outputs. `imported`: where the recording is another tool's. `gaps`: between
    chunks, where their times were kept.
    `ingress`: what the stages that are routed went through. `settled_ns`: when, from the run's start, a rollback had
    all traffic at the baseline. `asked`: the arms that the run asks, after failures, whether they still serve.
    `does_not_load`: why nothing was compared, where the baseline loads and the candidate does not; "" else.
    """

    samples: Columns
    outputs: tuple[Answer, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    gates: tuple[Gate, ...] = ()
    finished: bool = True
    seed: int = 0
    planned: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    readings: pa.Table | None = None
    guarded: str = ""
    devices: Mapping[str, str] = field(default_factory=dict)
    urls: Mapping[str, str] = field(default_factory=dict)
    gpus: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    workers: tuple[LoadWorker, ...] = ()
    pipelines: Mapping[str, Pipeline] = field(default_factory=dict)
    plans: tuple[StagePlan, ...] = ()
    calibrated: str | None = None
    marks: Marks = field(default_factory=Marks)
    imported: Imported | None = None
    gaps: Columns | None = None
    ingress: Ingress | None = None
    settled_ns: int | None = None
    asked: tuple[str, ...] = ()
    does_not_load: str = ""

    @classmethod
    def of(cls, recording: Recording) -> Evidence:
        """From a recording. A bare samples file counts as one finished stage (see `_bare_stages`)."""
        meta = recording.meta
        return cls.from_tables(
            recording.samples,
            recording.outputs,
            stages=stage_records(meta),
            gates=recorded_gates(meta),
            finished=bool(meta.get("finished", not meta)),
            seed=int(meta.get("seed") or 0),
            planned=_planned(meta),
            versions=_versions(meta),
            readings=recording.readings,
            guarded=str(meta.get("guarded") or ""),
            devices=_devices(meta),
            urls=_urls(meta),
            gpus=_gpus(meta),
            workers=_workers(meta),
            pipelines=pipelines(meta),
            plans=stage_plans(meta),
            calibrated=calibrated.sentence(meta),
            scores=recording.scores,
            imported=imported(meta),
            chunks=recording.chunks,
            ingress=_ingress(meta),
            settled_ns=_settled_ns(meta),
            asked=_asked(meta),
            does_not_load=str(meta.get("does_not_load") or ""),
        )

    @classmethod
    def from_tables(
        cls,
        samples: pa.Table,
        outputs: pa.Table | None = None,
        *,
        stages: Sequence[StageRecord] = (),
        gates: Sequence[Gate] = (),
        finished: bool = True,
        seed: int = 0,
        planned: int = 0,
        versions: Mapping[str, str] | None = None,
        readings: pa.Table | None = None,
        guarded: str = "",
        devices: Mapping[str, str] | None = None,
        urls: Mapping[str, str] | None = None,
        gpus: Mapping[str, Sequence[str]] | None = None,
        workers: Sequence[LoadWorker] = (),
        pipelines: Mapping[str, Pipeline] | None = None,
        plans: Sequence[StagePlan] = (),
        calibrated: str | None = None,
        scores: pa.Table | None = None,
        imported: Imported | None = None,
        chunks: pa.Table | None = None,
        ingress: Ingress | None = None,
        settled_ns: int | None = None,
        asked: Sequence[str] = (),
        does_not_load: str = "",
    ) -> Evidence:
        """From tables with the schemas of harness.recording.schema. Raises UsageError for a wrong gate."""
        columns = Columns.of(samples)
        return cls(
            samples=columns,
            outputs=answers(outputs),
            stages=tuple(stages) or _bare_stages(columns),
            gates=normalise(gates),
            finished=finished,
            seed=seed,
            planned=planned,
            versions=dict(versions or {}),
            readings=readings,
            guarded=guarded,
            devices=dict(devices or {}),
            urls=dict(urls or {}),
            gpus={arm: tuple(own) for arm, own in (gpus or {}).items()},
            workers=tuple(workers),
            pipelines=dict(pipelines or {}),
            plans=tuple(plans),
            calibrated=calibrated,
            marks=marks(scores),
            gaps=gaps(chunks),
            imported=imported,
            ingress=ingress,
            settled_ns=settled_ns,
            asked=tuple(asked),
            does_not_load=does_not_load,
        )

    def upto(self, now_ns: int) -> Evidence:
        """Only what was done by `now_ns`: samples, and the outputs of those samples."""
        samples = self.samples.take(self.samples.done_ns <= now_ns)
        return replace(self, samples=samples, outputs=seen(self.outputs, samples))

    @cached_property
    def kept(self) -> dict[Any, Any]:
        """What was worked out of single answers, by them: each look sees most of those that the look before saw."""
        return {}

    @cached_property
    def token_model(self) -> bool:
        return bool((self.samples.osl > 0).any())

    @cached_property
    def rules(self) -> tuple[Gate, ...]:
        """The gates as given, or the default ones."""
        if self.gates:
            return normalise(self.gates)
        answered = self.samples.take((self.samples.status == OK) & ~self.samples.score)
        arms = [answered.take(answered.arm == arm) for arm in (BASELINE, CANDIDATE)]
        smaller = min(len(arm) for arm in arms)
        some = [arm for arm in arms if len(arm)]
        if all(arm.due_known.any() for arm in some):
            return default_gates(token_model=self.token_model, requests=smaller)
        first = all((arm.first_ns >= 0).any() for arm in some)
        tokens = first and all((arm.osl > 0).any() for arm in some)
        return default_gates(token_model=tokens, requests=smaller, due=False, first=first)

    @cached_property
    def names(self) -> tuple[str, str]:
        """What sentences call the baseline and the candidate: v1 and v2, where versions tell them apart."""
        first, second = self.versions.get("baseline"), self.versions.get("candidate")
        if first and second and first != second:
            return f"v{first}", f"v{second}"
        return "the baseline", "the candidate"


def _planned(meta: Mapping[str, Any]) -> int:
    if isinstance(meta.get("planned"), int):
        return int(meta["planned"])
    # A recording without that number has a stage for each of its scenario's.
    scenario = meta.get("scenario")
    stages = scenario.get("stages") if isinstance(scenario, Mapping) else None
    return len(stages) if isinstance(stages, list) else 0


def _arms(meta: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What run.json says of each arm."""
    arms = meta.get("arms")
    known = arms.items() if isinstance(arms, Mapping) else ()
    return {str(name): arm for name, arm in known if isinstance(arm, Mapping)}


def _devices(meta: Mapping[str, Any]) -> dict[str, str]:
    """What readings call each arm."""
    known = {name: arm for name, arm in _arms(meta).items() if arm.get("model")}
    return {name: f"{arm['model']}/{arm.get('version') or ''}" for name, arm in known.items()}


def _urls(meta: Mapping[str, Any]) -> dict[str, str]:
    """The address of each arm."""
    return {name: str(arm["url"]) for name, arm in _arms(meta).items() if arm.get("url")}


def _gpus(meta: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What readings call the GPUs that serve one arm alone, of each arm of which that is known."""
    owned = {name: arm.get("gpus") for name, arm in _arms(meta).items()}
    return {name: tuple(map(str, own)) for name, own in owned.items() if isinstance(own, list) and own}


def _versions(meta: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(arm["version"]) for name, arm in _arms(meta).items() if arm.get("version") is not None}


def _ingress(meta: Mapping[str, Any]) -> Ingress | None:
    """Of `ingress` in run.json."""
    entry = meta.get("ingress")
    if not isinstance(entry, Mapping):
        return None
    routers = entry.get("routers")
    return Ingress(max(len(routers), 1) if isinstance(routers, list) else 1, entry.get("pattern") == "turns")


def _settled_ns(meta: Mapping[str, Any]) -> int | None:
    entry = meta.get("rollback")
    settled = entry.get("settled_ns") if isinstance(entry, Mapping) else None
    return settled if isinstance(settled, int) else None


def _asked(meta: Mapping[str, Any]) -> tuple[str, ...]:
    listed = meta.get("recovery")
    return tuple(map(str, listed)) if isinstance(listed, list) else ()


def _workers(meta: Mapping[str, Any]) -> tuple[LoadWorker, ...]:
    """Of `workers` in run.json, a list of objects; `worker` is the key that each has."""
    listed = meta.get("workers")
    entries = [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []
    return tuple(_worker(entry) for entry in entries if isinstance(entry.get("worker"), int))


def _worker(entry: Mapping[str, Any]) -> LoadWorker:
    lost, error, done, damaged = (entry.get(key) for key in ("lost_ns", "clock_error_s", "done", "damaged"))
    return LoadWorker(
        worker=entry["worker"],
        host=str(entry.get("host") or ""),
        lost_ns=lost if isinstance(lost, int) else None,
        reason=str(entry.get("reason") or ""),
        done=tuple(stage for stage in done if isinstance(stage, int)) if isinstance(done, list) else (),
        damaged=tuple(map(str, damaged)) if isinstance(damaged, list) else (),
        clock_error_s=float(error) if isinstance(error, int | float) else None,
    )


def _bare_stages(samples: Columns) -> tuple[StageRecord, ...]:
    """The stages of a file that says nothing of its plan, one for each stage number in it.

    Paired if most requests have a partner in the other arm; else interleaved if the arms are of equal size
    within chance (99.9 %); else a split of the observed share, in which no latency is compared.
    """
    records = []
    for index in np.unique(samples.stage).tolist():
        part = samples.take(samples.stage == index)
        first, second = (part.take((part.arm == arm) & ~part.score) for arm in (BASELINE, CANDIDATE))
        n1, n2 = len(first), len(second)
        known = first.pair_id[first.pair_id >= 0]
        both = np.intersect1d(known, second.pair_id).size
        begin = int(part.due_ns.min())
        duration = max((int(part.done_ns.max()) - begin) / 1e9, 1e-9)
        plan = bare_plan(index, (n1, n2), both, duration)
        records.append(StageRecord(plan, begin, end_ns=int(part.done_ns.max())))
    return tuple(records)


def bare_plan(index: int, requests: tuple[int, int], pairs: int, duration_s: float) -> StagePlan:
    """Of what was seen: so many requests of either arm, and so many pairs among them."""
    n1, n2 = requests
    share = n2 / max(n1 + n2, 1)
    mode: Mode = "split"
    if pairs >= 0.8 * max(n1, n2, 1):
        mode, share = "paired", 0.5
    elif abs(n1 - n2) <= 3.3 * (n1 + n2) ** 0.5:
        mode, share = "interleaved", 0.5
    sent = max(n1, n2) if mode == "paired" else n1 + n2
    return StagePlan(index, mode, "poisson", duration_s, share, rate=sent / duration_s)
