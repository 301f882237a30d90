"""The real HAProxy with the example configuration, before real Tritons and under traffic that names no version."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.embedded import EmbeddedServer
from harness.embedded import haproxy as embedded
from harness.embedded.haproxy import EmbeddedHaproxy
from harness.embedded.supervised import free_ports
from harness.errors import UsageError, WorldError
from harness.ingress import Ingress, open_ingress
from harness.ingress.haproxy_api import RuntimeApi
from tests.ingress.routers import at_rest, entry, held_server, slow_request
from tests.ingress.traffic import Answer, Traffic
from tests.ports import closed_port
from tests.waiting import until

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(embedded.available() is not None, reason=str(embedded.available())),
]

# Up and down, to either end and back, in steps small and large: 20 changes.
SHARES = (0.1, 0.5, 0.9, 1.0, 0.5, 0.0, 0.05, 0.25, 0.75, 0.01, 1 / 3, 0.005, 1.0, 0.2, 0.8, 0.1, 0.02, 0.95, 0.6, 0.0)
BOUND = 3
"""Of all requests that a backend got under one split, the candidate's differ by at most so many from n * share.

Measured: 1.8 at most.
"""


def host(url: str) -> str:
    return url.partition("://")[2]


@pytest.fixture(scope="module")
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with held_server(tmp_path_factory.mktemp("other-server")) as server:
        yield server


@pytest.fixture(scope="module")
def one(tiny_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHaproxy]:
    """Before the two versions of one Triton."""
    at = host(tiny_server.http_url)
    versions: dict[Any, int] = {"baseline": 1, "candidate": 2}
    with EmbeddedHaproxy(
        tmp_path_factory.mktemp("one"), {"baseline": at, "candidate": at}, versions=versions
    ) as router:
        yield router


@pytest.fixture(scope="module")
def two(
    tiny_server: EmbeddedServer, other_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedHaproxy]:
    """Before two Tritons: a baseline of version 2, the highest there, and a candidate of version 7."""
    with EmbeddedHaproxy(
        tmp_path_factory.mktemp("two"),
        {"baseline": host(tiny_server.http_url), "candidate": host(other_server.http_url)},
        grpc={"baseline": host(tiny_server.grpc_url), "candidate": host(other_server.grpc_url)},
    ) as router:
        yield router


def in_flight(answers: list[Answer], moment: float) -> int:
    return sum(answer.sent <= moment < answer.done for answer in answers)


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_20_changes_under_200_requests_a_second_lose_none(kind: str, request: pytest.FixtureRequest) -> None:
    """HTTP: two versions of one Triton, by path. gRPC: two Tritons."""
    router: EmbeddedHaproxy = request.getfixturevalue("one" if kind == "http" else "two")
    versions = ("1", "2") if kind == "http" else ("2", "7")
    ingress = at_rest(router)
    stages: list[tuple[float, float, float, dict[str, int]]] = []
    with Traffic(entry(router, kind), rate=200) as traffic:
        traffic.wait_for(20)
        for share in SHARES:
            ingress.set(share)
            begun, before = time.monotonic(), ingress.read().requests
            traffic.wait_for(100)
            after, split = ingress.read().requests, ingress.read()
            assert split.candidate_share == pytest.approx(share, rel=0.02)
            assert before is not None
            assert after is not None
            stages.append((share, begun, time.monotonic(), {arm: after[arm] - before[arm] for arm in before}))
    everything = traffic.answers()
    assert traffic.failed() == []
    assert len(everything) > 20 * 100
    for answer in everything:
        assert (answer.version, answer.served_by) in zip(versions, ("baseline", "candidate"), strict=True)
    for share, begun, ended, counted in stages:
        total = sum(counted.values())
        assert total >= 90
        assert abs(counted["candidate"] - total * share) <= BOUND, (share, counted)
        seen = traffic.answers(begun, ended)
        got = sum(answer.served_by == "candidate" for answer in seen)
        # what was under way at either end may have had its turn on the other side
        edges = in_flight(everything, begun) + in_flight(everything, ended)
        assert abs(got - len(seen) * share) <= BOUND + edges, (share, got, len(seen), edges)


def test_a_stream_in_step_with_another_gets_any_share_but_the_router_counts_right(one: EmbeddedHaproxy) -> None:
    """Turns are taken by all requests together: one's own are no fair sample of them."""
    ingress = at_rest(one)
    ingress.set(0.5)
    with Traffic(one.http_url, rate=100) as mine, Traffic(one.http_url, rate=100):
        mine.wait_for(50)
        before = ingress.read().requests
        mine.wait_for(150)
        after = ingress.read().requests
    assert mine.failed() == []
    assert before is not None
    assert after is not None
    total = sum(after.values()) - sum(before.values())
    assert abs(after["candidate"] - before["candidate"] - total / 2) <= BOUND


def test_http_reaches_two_tritons(two: EmbeddedHaproxy) -> None:
    ingress = at_rest(two)
    ingress.set(0.5)
    with Traffic(two.http_url) as traffic:
        traffic.wait_for(40)
    assert traffic.failed() == []
    assert {(answer.version, answer.served_by) for answer in traffic.answers()} == {
        ("2", "baseline"),
        ("7", "candidate"),
    }


def test_what_names_a_version_is_left_alone(one: EmbeddedHaproxy) -> None:
    at_rest(one)
    with Traffic(one.http_url, version=2) as traffic:
        traffic.wait_for(10)
    assert {(answer.version, answer.served_by) for answer in traffic.answers()} == {("2", "baseline")}


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_header_is_routed_elsewhere_while_requests_come(two: EmbeddedHaproxy, kind: str) -> None:
    ingress = at_rest(two)
    url = entry(two, kind)
    with Traffic(url, rate=100, headers={"x-experiment": "B"}) as routed, Traffic(url, rate=50) as rest:
        for values, arm in (
            ({}, "baseline"),
            ({"A": "baseline", "B": "candidate"}, "candidate"),
            ({"B": "baseline"}, "baseline"),
            ({"B": "candidate"}, "candidate"),
            ({"A": "candidate"}, "baseline"),
        ):
            ingress.header(values)
            assert ingress.read().headers == values
            since = routed.wait_for(30)
            # to the candidate although its weight is 0
            assert set(routed.count("served_by", since)) == {arm}
        ingress.header({"B": "candidate"})
        ingress.set(1.0)
        ingress.header({"B": "baseline"})
        since = routed.wait_for(30)
        assert set(routed.count("served_by", since)) == {"baseline"}
        assert set(rest.count("served_by", rest.wait_for(15))) == {"candidate"}
    assert routed.failed() == []
    assert rest.failed() == []


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_drain_waits_for_the_slow_request(two: EmbeddedHaproxy, other_server: EmbeddedServer, kind: str) -> None:
    with slow_request(two, other_server, kind) as slow:
        drained = slow.drain()
        over = time.monotonic()
        assert (drained.left, drained.cut) == (0, 0)
        answer = slow.answer()
        assert (answer.status, answer.version, answer.served_by) == ("ok", "7", "candidate")
        assert drained.took_s <= over - answer.sent
        assert slow.ingress.drain("candidate", 0).left == 0, "nothing is left, so nothing is waited for"


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_what_is_left_at_the_deadline_is_cut_if_wanted(
    two: EmbeddedHaproxy, other_server: EmbeddedServer, kind: str
) -> None:
    with slow_request(two, other_server, kind) as slow:
        drained = slow.ingress.drain("candidate", 0.2)
        assert (drained.left, drained.cut) == (1, 0)
        assert drained.took_s >= 0.2
        drained = slow.ingress.drain("candidate", 0.1, cut=True)
        assert (drained.left, drained.cut) == (1, 1)
        # Triton has not answered yet.
        assert slow.answer().status != "ok"
        assert slow.ingress.read().in_flight == {"baseline": 0, "candidate": 0}


def test_an_arm_that_gets_requests_is_not_drained(two: EmbeddedHaproxy) -> None:
    ingress = at_rest(two)
    with pytest.raises(UsageError, match=r"canary_http gives the baseline 100 %"):
        ingress.drain("baseline", 1)
    ingress.header({"B": "candidate"})
    with pytest.raises(UsageError, match="header's value B still leads to the candidate"):
        ingress.drain("candidate", 1)


def test_both_weights_at_0_is_no_split_and_can_be_repaired(one: EmbeddedHaproxy) -> None:
    ingress = at_rest(one)
    api(one).do("set weight canary_http/baseline 0")
    with Traffic(one.http_url) as traffic:
        traffic.wait_for(10)
    assert set(traffic.count("status")) == {"http 503"}, "the trap is there"
    assert set(traffic.count("served_by")) == {""}
    with pytest.raises(WorldError, match="canary_http/baseline and canary_http/candidate have weight 0"):
        ingress.read()
    ingress.set(0.0)
    assert ingress.read().candidate_share == 0.0
    with Traffic(one.http_url) as traffic:
        traffic.wait_for(10)
    assert traffic.failed() == []


def test_a_server_in_maintenance_gets_nothing_and_is_named(one: EmbeddedHaproxy) -> None:
    ingress = at_rest(one)
    for state, says in (("maint", "MAINT"), ("drain", "DRAIN")):
        api(one).do(f"set server canary_http/candidate state {state}")
        try:
            with pytest.raises(WorldError, match=f"the split is set, but canary_http/candidate is {says}"):
                ingress.set(0.5)
            split = ingress.read()
            assert (split.candidate_share, split.down) == (0.5, ("candidate",))
            with Traffic(one.http_url) as traffic:
                traffic.wait_for(20)
            assert set(traffic.count("served_by")) == {"baseline"}, "whatever its weight"
            ingress.set(0.0)  # what is down is to get nothing: no failure
        finally:
            api(one).do("set server canary_http/candidate state ready")
    assert ingress.read().down == ()


def test_a_dead_candidate_is_seen_and_its_requests_go_nowhere_else(tiny_server: EmbeddedServer, tmp_path: Path) -> None:
    http, grpc = host(tiny_server.http_url), host(tiny_server.grpc_url)
    with (
        closed_port() as port,
        EmbeddedHaproxy(
            tmp_path,
            {"baseline": http, "candidate": f"127.0.0.1:{port}"},
            grpc={"baseline": grpc, "candidate": f"127.0.0.1:{port}"},
        ) as router,
    ):
        ingress, sent = open_ingress(router.control), 0
        ingress.set(0.5)
        for kind, refused in (("http", "http 503"), ("grpc", "UNAVAILABLE")):
            with Traffic(entry(router, kind), rate=50, in_flight=4) as traffic:
                traffic.wait_for(20)
            for answer in traffic.answers():
                ok = answer.status == "ok"
                assert ok or answer.status.startswith(refused)
                if kind == "http" or ok:  # of an answer that is not 200, grpc shows no header
                    assert answer.served_by == ("baseline" if ok else "candidate"), "also in HAProxy's own words"
            assert 0.3 < len(traffic.failed()) / len(traffic.answers()) < 0.7
            sent += len(traffic.answers())
        counted = ingress.read().requests
        assert counted is not None
        assert sum(counted.values()) == sent, "those that failed included"


def test_a_failed_load_does_not_take_a_version_out_that_is_well(
    tiny_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The health checks that the example has as comments: of the version, through the hop that names it."""
    example = (embedded.scenarios_dir() / "ingress" / "haproxy.cfg").read_text()
    begin, end = example.index("    # option httpchk"), example.index("    # After a restart or reload")
    checks = example[begin:end].replace("# ", "").replace("MODEL", "tiny").replace("inter 2s", "inter 100ms")
    # without it, an answer that takes longer than `inter` is none
    checks += "    timeout check 10s\n"
    (tmp_path / "ingress").mkdir()
    (tmp_path / "ingress" / "haproxy.cfg").write_text(example[:begin] + checks + example[end:])
    monkeypatch.setattr(embedded, "scenarios_dir", lambda: tmp_path)
    at = host(tiny_server.http_url)
    arms: dict[Any, str] = {"baseline": at, "candidate": at}
    with EmbeddedHaproxy(tmp_path, arms, versions={"baseline": 1, "candidate": 99}) as router:
        ingress = open_ingress(router.control)
        deadline = time.monotonic() + 60
        while ingress.read().down != ("candidate",):
            assert time.monotonic() < deadline, "version 99 is nowhere, version 1 is well"
        assert api(router).servers("canary_http")["candidate"].status.startswith("DOWN")
        with pytest.raises(WorldError, match="canary_http/candidate is DOWN"):
            ingress.set(0.1)
    with EmbeddedHaproxy(tmp_path, arms, versions={"baseline": 1, "candidate": 2}) as router:
        ingress = open_ingress(router.control)
        deadline = time.monotonic() + 60
        while not all(row.status == "UP" for row in api(router).servers("canary_http").values()):
            assert time.monotonic() < deadline
        assert ingress.read().down == (), "weight 0 is not down"
        ingress.set(0.1)


def test_control_calls_do_not_reach_an_arm_by_chance(one: EmbeddedHaproxy) -> None:
    connection = http.client.HTTPConnection(host(one.http_url), timeout=60)
    for path, status in (("/v2/repository/models/tiny/unload", 403), ("/v2/models/tiny/ready", 200)):
        connection.request("GET" if status == 200 else "POST", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status, path
    connection.request("GET", "/v2/models/tiny/stats")
    answer = connection.getresponse()
    assert [stats["version"] for stats in json.loads(answer.read())["model_stats"]] == ["1"]
    connection.close()


def test_a_restart_loses_the_weights_and_read_shows_it(tiny_server: EmbeddedServer, tmp_path: Path) -> None:
    at = host(tiny_server.http_url)
    router = EmbeddedHaproxy(tmp_path, {"baseline": at, "candidate": at}, versions={"baseline": 1, "candidate": 2})
    with router:
        ingress = open_ingress(router.control)
        ingress.set(0.25)
        ingress.header({"B": "candidate"})
    with router:
        assert ingress.target == router.control
        assert (ingress.read().candidate_share, ingress.read().headers) == (0.0, {})
        ingress.set(0.25)
        assert ingress.read().candidate_share == 0.25


def test_a_reload_loses_no_request_but_the_weights(tiny_server: EmbeddedServer, tmp_path: Path) -> None:
    """As `systemctl reload haproxy` does it: a master process starts a new worker beside the old one."""
    (tmp_path / "headers.map").write_text("")
    ports = free_ports(2)
    env = {"PATH": os.environ["PATH"], "CANARY_NAME": f"reload-{os.getpid()}", "CANARY_MAP": f"{tmp_path}/headers.map"}
    env |= {"CANARY_SOCKET": f"{tmp_path}/admin.sock"}
    for wire, port, url in zip(("HTTP", "GRPC"), ports, (tiny_server.http_url, tiny_server.grpc_url), strict=True):
        env |= {f"CANARY_{wire}": f"127.0.0.1:{port}"}
        env |= {f"CANARY_{arm}_{wire}": host(url) for arm in ("BASELINE", "CANDIDATE")}
    example = embedded.scenarios_dir() / "ingress" / "haproxy.cfg"
    ingress = open_ingress(f"haproxy+unix://{tmp_path}/admin.sock?backend=canary_http,canary_grpc")
    command = [str(embedded._binary()), "-W", "-f", str(example)]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as master:
        try:
            wait_for_share(ingress, 0.0)
            ingress.set(0.5)
            with Traffic(f"http://127.0.0.1:{ports[0]}") as http, Traffic(f"grpc://127.0.0.1:{ports[1]}") as grpc:
                for _ in range(2):
                    http.wait_for(50)
                    old = {worker for worker in psutil.Process(master.pid).children() if answers(worker)}
                    assert old
                    master.send_signal(signal.SIGUSR2)
                    until(lambda old=old: not any(map(answers, old)), "it is the new worker that answers")
                    wait_for_share(ingress, 0.0)
                    ingress.set(0.5)
                    for traffic in (http, grpc):
                        # connections of before end with the old worker's weights
                        since = traffic.wait_for(100)
                        assert set(traffic.count("served_by", since)) == {"baseline", "candidate"}
            assert (http.failed(), grpc.failed()) == ([], [])
        finally:
            master.terminate()


def answers(worker: psutil.Process) -> bool:
    """Whether it may be the one: for a moment, the old worker and the new one both listen at the control socket."""
    try:
        return any("/admin.sock" in str(one.laddr) for one in worker.net_connections("unix"))
    except psutil.Error:  # it has ended
        return False


def wait_for_share(ingress: Ingress, share: float) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if ingress.read().candidate_share == share:
                return
        except WorldError:  # one worker ends, and the next begins
            pass
        assert time.monotonic() < deadline
        time.sleep(0.02)


def api(router: EmbeddedHaproxy) -> RuntimeApi:
    return RuntimeApi("unix", router.control.partition("://")[2].partition("?")[0])
