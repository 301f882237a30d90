"""The real Envoy with the example configuration, before real Tritons and under traffic that names no version."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from scipy.stats import binomtest

from harness.embedded import EmbeddedServer
from harness.embedded import envoy as embedded
from harness.embedded.envoy import EmbeddedEnvoy
from harness.errors import UsageError
from harness.ingress import open_ingress
from tests.ingress.routers import at_rest, entry, held_server, slow_request
from tests.ingress.traffic import Traffic
from tests.ports import closed_port

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(embedded.available() is not None, reason=str(embedded.available())),
]

# Up and down, to either end and back, in steps small and large: 20 changes.
SHARES = (0.1, 0.5, 0.9, 1.0, 0.5, 0.0, 0.05, 0.25, 0.75, 0.01, 1 / 3, 0.005, 1.0, 0.2, 0.8, 0.1, 0.02, 0.95, 0.6, 0.0)
RARE = 1e-6
"""How often the tests of one run of changes fail although nothing is wrong."""


def host(url: str) -> str:
    return url.partition("://")[2]


@pytest.fixture(scope="module")
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with held_server(tmp_path_factory.mktemp("other-server")) as server:
        yield server


@pytest.fixture(scope="module")
def one(tiny_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEnvoy]:
    """Before the two versions of one Triton."""
    at = host(tiny_server.http_url)
    versions: dict[Any, int] = {"baseline": 1, "candidate": 2}
    with EmbeddedEnvoy(tmp_path_factory.mktemp("one"), {"baseline": at, "candidate": at}, versions=versions) as router:
        yield router


@pytest.fixture(scope="module")
def two(
    tiny_server: EmbeddedServer, other_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedEnvoy]:
    """Before two Tritons: a baseline of version 2, the highest there, and a candidate of version 7."""
    with EmbeddedEnvoy(
        tmp_path_factory.mktemp("two"),
        {"baseline": host(tiny_server.http_url), "candidate": host(other_server.http_url)},
        grpc={"baseline": host(tiny_server.grpc_url), "candidate": host(other_server.grpc_url)},
    ) as router:
        yield router


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_20_changes_under_200_requests_a_second_lose_none(kind: str, request: pytest.FixtureRequest) -> None:
    """HTTP: two versions of one Triton, by path. gRPC: two Tritons."""
    router: EmbeddedEnvoy = request.getfixturevalue("one" if kind == "http" else "two")
    versions = ("1", "2") if kind == "http" else ("2", "7")
    ingress = at_rest(router)
    assert ingress.pattern == "random"
    first = ingress.read().requests
    stages: list[tuple[float, float, float]] = []
    with Traffic(entry(router, kind), rate=200) as traffic:
        traffic.wait_for(20)
        for share in SHARES:
            ingress.set(share)
            begun = time.monotonic()
            assert ingress.read().candidate_share == pytest.approx(share, abs=1e-6)
            traffic.wait_for(120)
            stages.append((share, begun, time.monotonic()))
    assert traffic.failed() == []
    everything = traffic.answers()
    assert len(everything) > 20 * 120
    for answer in everything:
        assert (answer.version, answer.served_by) in zip(versions, ("baseline", "candidate"), strict=True)
    for share, begun, ended in stages:
        # sent once `set` has returned, whichever worker draws, and answered before the next one was called
        seen = [answer for answer in traffic.answers(begun) if answer.done < ended]
        got = sum(answer.served_by == "candidate" for answer in seen)
        assert len(seen) >= 110
        assert binomtest(got, len(seen), share).pvalue > RARE / len(SHARES), (share, got, len(seen))
    split = ingress.read()
    assert first is not None
    assert split.requests is not None
    counted = {arm: split.requests[arm] - first[arm] for arm in first}
    assert counted == dict(traffic.count("served_by"))
    assert split.in_flight == {"baseline": 0, "candidate": 0}


def test_a_change_is_in_force_when_set_returns(one: EmbeddedEnvoy) -> None:
    """On every worker, and under traffic that keeps them busy."""
    ingress = at_rest(one)
    places = [http.client.HTTPConnection(host(one.http_url), timeout=60) for _ in range(8)]
    with Traffic(one.http_url, rate=200, in_flight=4):
        for turn in range(60):
            share = 1.0 - turn % 2
            ingress.set(share)
            for place in places:
                place.request("GET", "/v2/health/live")
            served = set()
            for place in places:
                answer = place.getresponse()
                answer.read()
                served.add(answer.getheader("x-served-by"))
            assert served == {"candidate" if share else "baseline"}, turn
    for place in places:
        place.close()


def test_http_reaches_two_tritons(two: EmbeddedEnvoy) -> None:
    ingress = at_rest(two)
    ingress.set(0.5)
    with Traffic(two.http_url) as traffic:
        traffic.wait_for(60)
    assert traffic.failed() == []
    assert {(answer.version, answer.served_by) for answer in traffic.answers()} == {
        ("2", "baseline"),
        ("7", "candidate"),
    }


def test_who_names_a_version_gets_it_and_is_told_so(one: EmbeddedEnvoy) -> None:
    at_rest(one)
    with Traffic(one.http_url, version=2) as traffic:
        traffic.wait_for(10)
    assert {(answer.version, answer.served_by) for answer in traffic.answers()} == {("2", "candidate")}


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_header_is_routed_elsewhere_while_requests_come(two: EmbeddedEnvoy, kind: str) -> None:
    ingress = at_rest(two)
    url = entry(two, kind)
    with Traffic(url, rate=100, headers={"x-experiment": "B"}) as routed, Traffic(url, rate=50) as rest:
        changes: tuple[tuple[dict[str, Any], str], ...] = (
            ({}, "baseline"),
            ({"A": "baseline", "B": "candidate"}, "candidate"),
            ({"B": "baseline"}, "baseline"),
            ({"B": "candidate"}, "candidate"),
            ({"A": "candidate"}, "baseline"),
        )
        for values, arm in changes:
            ingress.header(values)
            assert ingress.read().headers == values
            since = routed.wait_for(30)
            assert set(routed.count("served_by", since)) == {arm}, "whatever the split"
        ingress.header({"B": "candidate"})
        ingress.set(1.0)
        ingress.header({"B": "baseline"})
        since = routed.wait_for(30)
        assert set(routed.count("served_by", since)) == {"baseline"}
        assert set(rest.count("served_by", rest.wait_for(15))) == {"candidate"}
    assert routed.failed() == []
    assert rest.failed() == []


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_drain_waits_for_the_slow_request_and_cuts_none(
    two: EmbeddedEnvoy, other_server: EmbeddedServer, kind: str
) -> None:
    with slow_request(two, other_server, kind) as slow:
        drained = slow.ingress.drain("candidate", 0.2, cut=True)
        assert (drained.left, drained.cut) == (1, 0), "nothing of its admin interface can end it"
        assert drained.took_s >= 0.2
        assert slow.drain().left == 0
        answer = slow.answer()
        assert (answer.status, answer.version, answer.served_by) == ("ok", "7", "candidate")
        assert slow.ingress.drain("candidate", 0).left == 0, "nothing is left, so nothing is waited for"


def test_an_arm_that_gets_requests_is_not_drained(two: EmbeddedEnvoy) -> None:
    ingress = at_rest(two)
    with pytest.raises(UsageError, match=r"an arm is drained at 0 %, but the baseline gets 100"):
        ingress.drain("baseline", 1)
    ingress.header({"B": "candidate"})
    with pytest.raises(UsageError, match="header's value B still leads to the candidate"):
        ingress.drain("candidate", 1)


def test_a_dead_candidate_is_seen_and_its_requests_go_nowhere_else(tiny_server: EmbeddedServer, tmp_path: Path) -> None:
    http, grpc = host(tiny_server.http_url), host(tiny_server.grpc_url)
    with (
        closed_port() as port,
        EmbeddedEnvoy(
            tmp_path,
            {"baseline": http, "candidate": f"127.0.0.1:{port}"},
            grpc={"baseline": grpc, "candidate": f"127.0.0.1:{port}"},
        ) as router,
    ):
        ingress, sent = open_ingress(router.control), 0
        assert ingress.read().down == ("candidate",)
        ingress.set(0.5)
        for kind, refused in (("http", "http 503"), ("grpc", "UNAVAILABLE")):
            with Traffic(entry(router, kind), rate=50, in_flight=4) as traffic:
                traffic.wait_for(40)
            for answer in traffic.answers():
                ok = answer.status == "ok"
                assert ok or answer.status.startswith(refused)
                assert answer.served_by == ("baseline" if ok else "candidate"), "also in Envoy's own words"
            assert 0.1 < len(traffic.failed()) / len(traffic.answers()) < 0.9
            sent += len(traffic.answers())
        counted = ingress.read().requests
        assert counted is not None
        assert sum(counted.values()) == sent, "those that failed included, health checks not"


def test_what_is_no_request_at_a_model_is_left_alone(one: EmbeddedEnvoy) -> None:
    """Control calls would reach an arm by chance; /v2/models/stats is about all models; gRPC cannot be split here."""
    at_rest(one)
    connection = http.client.HTTPConnection(host(one.http_url), timeout=60)

    def get(path: str, method: str = "GET") -> tuple[int, Any]:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body.startswith(b"{") else body

    assert get("/v2/repository/models/tiny/unload", "POST")[0] == 403
    assert get("/v2/models/tiny/ready") == (200, b"")
    assert [row["version"] for row in get("/v2/models/tiny/stats?x=1")[1]["model_stats"]] == ["1"]
    assert {row["version"] for row in get("/v2/models/stats")[1]["model_stats"]} == {"1", "2"}
    assert get("/v2/models/tiny")[1]["versions"] == ["1"]
    connection.close()
    with grpc.insecure_channel(host(one.http_url)) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"", timeout=60)
        assert refused.value.details() == "this ingress has no route for gRPC"


def test_a_restart_loses_the_changes_and_read_shows_it(tiny_server: EmbeddedServer, tmp_path: Path) -> None:
    at = host(tiny_server.http_url)
    router = EmbeddedEnvoy(tmp_path, {"baseline": at, "candidate": at}, versions={"baseline": 1, "candidate": 2})
    with router:
        ingress = open_ingress(router.control)
        assert ingress.target == router.control
        ingress.set(0.25)
        ingress.header({"B": "candidate"})
        assert (ingress.read().candidate_share, ingress.read().headers) == (0.25, {"B": "candidate"})
    with router:
        ingress = open_ingress(router.control)
        assert (ingress.read().candidate_share, ingress.read().headers) == (0.0, {})
        ingress.set(0.25)
        assert ingress.read().candidate_share == 0.25
