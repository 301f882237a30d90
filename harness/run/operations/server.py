"""multi-model-server: two models of one server, each alone, together, and alone again in the opposite order."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from harness.embedded import EmbeddedServer, reference_build
from harness.run.engines import Engines
from harness.run.operations.course import Course
from harness.run.operations.loads import Asked, driving, measure
from harness.run.operations.memory import metered, plain
from harness.run.operations.windows import blocks_in
from harness.run.target import access_of
from harness.scenario import MultiModelServer, PlaceConfig, SharedModel
from harness.triton import Control
from harness.types import Arm

PART = "loads"


def observe(course: Course) -> None:
    """Every phase ends before the next begins; the models stay loaded in all of them, and only the loads change."""
    scenario = course.scenario
    assert isinstance(scenario, MultiModelServer)
    server = _start(course, scenario) if scenario.embedded else None
    asked = [Asked(name, model, _arm(model, server)) for name, model in scenario.models.items()]
    limits = scenario.limits
    course.note(
        models={one.name: _facts(one) for one in asked},
        limits={**{key: getattr(limits, key) for key in type(limits).model_fields}, "memory": plain(limits.memory)},
        phases=[],
        memory=[],
    )
    _tell_engines(course, asked, scenario.target.metrics_url if server is None else (server.metrics_url,))
    t0_ns = time.monotonic_ns()
    with (
        metered(course, scenario.target, server, scenario.urls, t0_ns, limits.memory) as meter,
        driving(course, scenario.seed, asked, PART, t0_ns) as drives,
    ):
        assert meter is not None
        by_name = {drive.asked.name: drive for drive in drives}
        for index, names in enumerate(scenario.order):
            seconds = scenario.seconds(names)
            course.say(f"{' and '.join(names)}{' together' if len(names) > 1 else ' alone'}")
            measure(course, [by_name[name] for name in names], index, scenario.warm_up_s, seconds)
            course.facts["phases"].append({"index": index, "models": list(names), "seconds": seconds})
            counted_ns = by_name[names[0]].counted_ns(index)
            read = meter.facts(*counted_ns, limits.memory, where="phase", blocks=blocks_in(seconds))
            course.facts["memory"].append(read)
            course.save()


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


def _tell_engines(course: Course, asked: list[Asked], pages: tuple[str, ...]) -> None:
    """What nobody will know of the engines that serve the models."""
    with ExitStack() as stack:
        arms = [one.called for one in asked if one.arm.api != "openai"]
        controls = [stack.enter_context(Control(arm.url, access_of(arm))) for arm in arms]
        engines = Engines(pages, course.say)
        engines.look(zip(arms, controls, strict=True))
        course.note(notes=engines.notes)
