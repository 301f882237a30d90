"""Where an ab-test's arms are, and the router that honours its header: the user's, or a real one that is started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.embedded import EmbeddedServer, reference_build
from harness.embedded.envoy import EmbeddedEnvoy
from harness.embedded.haproxy import EmbeddedHaproxy
from harness.errors import WorldError
from harness.ingress import Ingress, open_ingress
from harness.load import Routed
from harness.run.operations.course import Course
from harness.run.operations.recover import fence_of
from harness.run.put_back import Live, put_back
from harness.run.routers import names_of
from harness.scenario import AbTest, PlaceConfig
from harness.types import Arm, ArmName

COMPARED: tuple[ArmName, ArmName] = ("baseline", "candidate")


@dataclass(frozen=True)
class Arms:
    """`arms`: as they are called. `servers`: as they are asked what the model is, which is not by way of an ingress.
    `told`: how an answer tells which arm it is from (see `judge.operations.ab.rows`). `routers`: those whose header
    rules are to be set. `routed`: None without an ingress.
    """

    arms: dict[ArmName, Arm]
    servers: dict[ArmName, Arm]
    told: dict[str, Any]
    routers: tuple[Ingress, ...] = ()
    routed: Routed | None = None


def open_arms(course: Course, scenario: AbTest) -> Arms:
    """Start or find them. Raises UsageError, ServerDied."""
    server = _start(course, scenario) if scenario.embedded else None
    if scenario.ingress is not None:
        return _through(course, scenario, server)
    arms = {name: scenario.arm(name, _url(scenario, name, server)) for name in COMPARED}
    a, b = arms["baseline"], arms["candidate"]
    apart = (a.url, a.model) != (b.url, b.model)
    return Arms(arms, arms, {"names": {}, "versions": {} if apart else _versions(scenario), "address": apart})


@contextmanager
def led(course: Course, arms: Arms) -> Iterator[None]:
    """The header's values lead to the arms, and afterwards where they led before. Raises WorldError where a router does
    not do as it is told.
    """
    if not arms.routers:
        yield
        return
    wanted: Mapping[str, ArmName] = {"A": "baseline", "B": "candidate"}
    for router in arms.routers:
        before = dict(router.read().headers)
        with course.journal.action("route.header", router.target, before=before, wanted=dict(wanted)):
            router.header(wanted)
    yield
    live = Live({router.target: router for router in arms.routers}, fences=[fence_of(course.journal)])
    if failures := put_back(course.journal, course.say, live):
        raise WorldError("; ".join(failures))


def _through(course: Course, scenario: AbTest, server: EmbeddedServer | None) -> Arms:
    config = scenario.ingress
    assert config is not None
    control = config.control or ()
    url = config.url
    if server is not None:
        http: dict[ArmName, str] = dict.fromkeys(COMPARED, server.http_url.partition("://")[2])
        versions = {name: scenario.arms[name].version or 1 for name in COMPARED}
        kind = EmbeddedHaproxy if config.server == "haproxy" else EmbeddedEnvoy
        router = kind(course.folder.path / "ingress", http, versions=versions)
        course.say(f"starting {'HAProxy' if config.server == 'haproxy' else 'Envoy'}")
        with course.journal.action("ingress.start", str(config.server)):
            course.stack.callback(router.stop)
            router.start()
        control, url = (router.control,), router.http_url
    assert url is not None
    routers = tuple(open_ingress(address) for address in control)
    for each in routers:
        course.stack.callback(each.close)
    names: dict[str, ArmName] = names_of(control) if control else {str(name): name for name in COMPARED}
    routed = Routed(config.served_by.lower(), names)
    told = {"names": names, "versions": _versions(scenario), "address": False}
    arms = {name: scenario.arm(name, url) for name in COMPARED}
    behind = {
        name: scenario.arms[name].arm(arms[name].url if arms[name].api == "openai" else _url(scenario, name, server))
        for name in COMPARED
    }
    return Arms(arms, behind, told, routers, routed)


def _start(course: Course, scenario: AbTest) -> EmbeddedServer:
    models: dict[str, dict[int, Any]] = {}
    for arm in scenario.arms.values():
        models.setdefault(arm.model, {})[arm.version or 1] = arm.build or reference_build(arm.model)
    place = course.open_place(PlaceConfig(server="embedded"), models)
    assert place.server is not None
    return place.server


def _url(scenario: AbTest, name: ArmName, server: EmbeddedServer | None) -> str:
    config = scenario.arms[name]
    if server is not None:
        return server.grpc_url if config.over == "grpc" else server.http_url
    url = scenario.server(config)
    assert url is not None
    return url


def _versions(scenario: AbTest) -> dict[str, ArmName]:
    """By the version alone, where it tells the arms apart."""
    found = {str(scenario.arms[name].version): name for name in COMPARED if scenario.arms[name].version is not None}
    return found if len(found) == len(COMPARED) else {}
