"""Figures sent to the real Pushgateway and through a real collector arrive as they were; failures are one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from prometheus_client.parser import text_string_to_metric_families

from harness import __version__
from harness.errors import Unreachable, WorldError
from harness.publish import Endpoint, deliver, otlp, otlp_endpoint, pushgateway
from harness.report.openmetrics import gauges, openmetrics
from harness.types import Gauge, Verdict
from tests.ports import closed_port
from tests.publish import serving
from tests.report import factory

META = {"scenario": {"name": "team/fp8 canary"}}
NAME = "team/fp8 canary"
Values = dict[str, dict[frozenset[tuple[str, str]], float]]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving.pushgateway(tmp_path_factory.mktemp("pushgateway")) as url:
        yield url


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "PAUSES_S", (0.01, 0.02))
    # Whom it does not hear of in time it asks again, and the tests count.
    monkeypatch.setattr(deliver, "TIMEOUT_S", 60.0)


def values(found: tuple[Gauge, ...]) -> Values:
    return {one.name: {frozenset(labels.items()): value for labels, value in one.points} for one in found}


def on_page(url: str) -> Values:
    """Our figures as the Pushgateway shows them to Prometheus, without what it adds."""
    page = httpx.get(f"{url}/metrics", trust_env=False).text
    found: Values = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.labels.pop("job", "") == "triton-canary" and sample.labels.pop("instance") == "":
                found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return {name: points for name, points in found.items() if not name.startswith("push_")}


def test_the_pushgateway_shows_the_last_verdict_and_nothing_of_those_before(gateway: str) -> None:
    for verdict in (factory.rollback(), factory.inconclusive()):
        found = gauges(META, verdict)
        pushgateway.push(gateway, openmetrics(found), NAME)
        assert on_page(gateway) == values(found)
    other = gauges({"scenario": {"name": "other"}}, factory.promote())
    pushgateway.push(gateway, openmetrics(other), "other")
    both = on_page(gateway)
    assert all(
        points.items() <= both[name].items() for name, points in [*values(found).items(), *values(other).items()]
    )


def test_what_the_pushgateway_refuses_is_told_in_its_own_words(gateway: str) -> None:
    with pytest.raises(WorldError, match=r"scenario/x: HTTP 400: .*text format parsing error"):
        pushgateway.push(gateway, "no figures at all\n", "x")


def test_a_collector_takes_every_figure(tmp_path: Path) -> None:
    found = gauges(META, factory.promote())
    with serving.collector(tmp_path) as (url, sent_on):
        otlp.send(otlp_endpoint(url, {}), found, {"vcs.ref.head.revision": "0123abc"})
        asked = sent_on.get(timeout=serving.START_S)
    assert asked.path == "/v1/metrics"
    resource, arrived = serving.figures(asked)
    assert resource == {
        "service.name": "triton-canary", "service.version": __version__, "vcs.ref.head.revision": "0123abc",
    }  # fmt: skip
    points = {name: {frozenset(labels): value for labels, value in all_.items()} for name, (_, all_) in arrived.items()}
    assert points == values(found)
    units = {name: unit for name, (unit, _) in arrived.items()}
    assert units["triton_canary_measured_seconds"] == "s"
    assert units["triton_canary_effect_ratio"] == "1"
    assert units["triton_canary_effect_nats"] == "{nats}"
    assert units["triton_canary_verdict"] == ""


def send(to: str, verdict: Verdict | None = None) -> None:
    otlp.send(Endpoint(to, {"api-key": "secret"}), gauges(META, verdict or factory.rollback()), {})


def test_headers_go_along() -> None:
    with serving.serving() as server:
        send(server.url)
        asked = server.asked.get(timeout=serving.START_S)
    assert asked.method == "POST"
    assert asked.headers["api-key"] == "secret"
    assert asked.headers["content-type"] == "application/x-protobuf"


def test_who_is_busy_is_asked_again() -> None:
    with serving.serving((503, b""), (429, b""), (200, b"")) as server:
        send(server.url)
        bodies = {server.asked.get(timeout=serving.START_S).body for _ in range(3)}
        assert len(bodies) == 1


@pytest.mark.parametrize(
    ("answers", "times", "said"),
    [
        ([(503, b"not now\nnever")], 3, "HTTP 503: not now never"),
        ([(401, b"")], 1, "HTTP 401$"),
        ([(200, b"<html>hello</html>")], 1, "answered with something that is not OTLP"),
        ([(400, b"x" * 5000)], 1, r"HTTP 400: x{197}\.\.\.$"),
    ],
)
def test_who_refuses_is_asked_no_more_than_may_help(answers: list[tuple[int, bytes]], times: int, said: str) -> None:
    with serving.serving(*answers) as server:
        with pytest.raises(WorldError, match=said) as raised:
            send(server.url)
        assert server.asked.qsize() == times
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_figures_that_were_refused_are_counted() -> None:
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = 7
    answer.partial_success.error_message = "too old"
    with (
        serving.serving((200, answer.SerializeToString())) as server,
        pytest.raises(WorldError, match="refused 7 figures: too old"),
    ):
        send(server.url)


def test_nobody_there() -> None:
    with closed_port() as port, pytest.raises(Unreachable, match=f"http://127.0.0.1:{port}/x: ") as raised:
        send(f"http://user:secret@127.0.0.1:{port}/x?token=secret")
    assert "secret" not in str(raised.value)
