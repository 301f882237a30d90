"""multi-model-server: two models of one server, each alone, together, and alone again in the opposite order."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil

from harness.embedded import EmbeddedServer, reference_build
from harness.errors import RecordingError
from harness.recording import read_table, seal
from harness.run.operations.course import Course
from harness.run.operations.loads import Asked, driving, measure
from harness.run.operations.windows import memory
from harness.scenario import MultiModelServer, PlaceConfig, SharedModel
from harness.telemetry import Nvml, Sampler, sources
from harness.types import Arm

PART = "loads"
GPU = ("nvml", "gpu", "gpu.memory.used", "GPU memory in use, all GPUs of this machine")
SERVER = ("process", "server", "memory.rss", "resident memory of the server and its processes")
INTERVAL_S = 0.25


def observe(course: Course) -> None:
    """Every phase ends before the next begins; the models stay loaded in all of them, and only the loads change."""
    scenario = course.scenario
    assert isinstance(scenario, MultiModelServer)
    server = _start(course, scenario) if scenario.embedded else None
    asked = [Asked(name, model, _arm(model, server)) for name, model in scenario.models.items()]
    course.note(
        models={one.name: _facts(one) for one in asked},
        limits={key: getattr(scenario.limits, key) for key in type(scenario.limits).model_fields},
        phases=[],
        memory=None,
    )
    t0_ns = time.monotonic_ns()
    sampler = _sampler(course, scenario, server, t0_ns)
    sampler.start()
    began: list[tuple[int, float, float]] = []
    try:
        with driving(course, scenario.seed, asked, PART, t0_ns) as drives:
            by_name = {drive.asked.name: drive for drive in drives}
            for index, names in enumerate(scenario.order):
                seconds = scenario.seconds(names)
                course.say(f"{' and '.join(names)}{' together' if len(names) > 1 else ' alone'}")
                begin_s = (time.monotonic_ns() - t0_ns) / 1e9 + scenario.warm_up_s
                measure(course, [by_name[name] for name in names], index, scenario.warm_up_s, seconds)
                began.append((index, begin_s, seconds))
                course.facts["phases"].append({"index": index, "models": list(names), "seconds": seconds})
                course.save()
    finally:
        sampler.stop()
        course.note(memory=_memory(course.folder.path, began, sampler.notes))


def _start(course: Course, scenario: MultiModelServer) -> EmbeddedServer:
    models: dict[str, dict[int, Any]] = {}
    for model in scenario.models.values():
        build = model.build or reference_build(model.model)
        models.setdefault(model.model, {})[model.version or 1] = build
    place = course.open_place(PlaceConfig(server="embedded"), models)
    assert place.server is not None
    return place.server


def _arm(model: SharedModel, server: EmbeddedServer | None) -> Arm:
    """Where the model itself is called: its /infer path, or the gRPC stream of one that answers in parts."""
    url = model.url
    if server is not None:
        url = server.http_url if model.over == "http" or model.api != "kserve" else server.grpc_url
    assert url is not None
    return model.arm(url)


def _facts(asked: Asked) -> dict[str, Any]:
    info, load = asked.info(), asked.load
    return {
        "model": asked.arm.model, "version": asked.arm.version, "url": asked.arm.url, "api": asked.arm.api,
        "load": load.words, "token_model": info.is_token_model, "max_tokens": load.max_tokens,
    }  # fmt: skip


def _sampler(course: Course, scenario: MultiModelServer, server: EmbeddedServer | None, t0_ns: int) -> Sampler:
    pid = scenario.target.server_pid if server is None else server.pid
    url = scenario.target.metrics_url if server is None else server.metrics_url
    return Sampler(sources(url, pid), course.folder.path / "readings.arrow", t0_ns, INTERVAL_S)


def _memory(folder: Path, began: list[tuple[int, float, float]], notes: tuple[str, ...]) -> dict[str, Any]:
    """Of the GPUs where this machine has any, else of the server's processes."""
    try:
        seal(folder)
        readings = read_table(folder, "readings")
    except RecordingError as error:
        return {"what": "", "total": 0, "phases": [], "missing": str(error)}
    on_gpu = Nvml().missing() is None
    source, device, metric, what = GPU if on_gpu else SERVER
    phases = [memory(readings, source, device, metric, begin_s, seconds) for _, begin_s, seconds in began]
    total = float(psutil.virtual_memory().total)
    if on_gpu:
        total = sum(value.value for value in Nvml().read() if value.metric == "gpu.memory.total")
    missing = "" if any(phases) else "; ".join(notes) or "the server's process is not known (target.server_pid)"
    return {"what": what, "total": total, "phases": phases, "missing": missing}
