"""What Envoy refuses, loses or does not say; no Triton is asked."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from scipy.stats import binomtest

from harness.assets import scenarios_dir
from harness.embedded import envoy as embedded
from harness.embedded.envoy import EmbeddedEnvoy
from harness.errors import ServerDied, Unreachable, UsageError, WorldError
from harness.ingress import asking, open_ingress
from harness.ingress.envoy_runtime import share_of, value_of
from tests.processes import gone
from tests.triton.proxy import free_port

needs_envoy = pytest.mark.skipif(embedded.available() is not None, reason=str(embedded.available()))


class Changed(EmbeddedEnvoy):
    """With another configuration: what `changes` replaces in the example."""

    def __init__(self, folder: Path, changes: dict[str, str], **rest: Any) -> None:
        nobody = "127.0.0.1:1"  # where no program comes to listen by chance
        super().__init__(folder, {"baseline": nobody, "candidate": nobody}, **rest)
        self._changes = changes

    def _configured(self, text: str) -> str:
        text = super()._configured(text)
        for old, new in self._changes.items():
            assert old in text
            text = text.replace(old, new)
        return text


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEnvoy]:
    """Nobody is behind it."""
    with Changed(tmp_path_factory.mktemp("lonely"), {}) as router:
        yield router


def modify(router: EmbeddedEnvoy, value: str, key: str = "canary.candidate") -> None:
    """By hand: Envoy says OK to whatever it is told."""
    connection = http.client.HTTPConnection(router.control.partition("://")[2], timeout=60)
    connection.request("POST", f"/runtime_modify?{key}={quote(value, safe='')}")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"OK\n")
    connection.close()


def candidates(router: EmbeddedEnvoy, requests: int) -> int:
    """How many of `requests` Envoy gives to the candidate; each is answered 503, and says so."""
    connection = http.client.HTTPConnection(router.http_url.partition("://")[2], timeout=60)
    found = 0
    for _ in range(requests):
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        found += answer.getheader("x-served-by") == "candidate"
    connection.close()
    return found


@pytest.mark.parametrize("share", [0.0, 0.1, 0.0055, 1 / 3, 0.29, 0.57, 0.000001, 0.999999, 1.0])
def test_a_share_is_written_so_that_it_is_read_again(share: float) -> None:
    assert share_of(value_of(share)) == pytest.approx(share, abs=5e-7)
    assert value_of(share).isdecimal() == (round(share * 100) == pytest.approx(share * 100))


@pytest.mark.parametrize("share", [-0.1, 1.01, float("nan"), 1e-7, 1 - 1e-7])
def test_what_is_no_share_is_refused_and_not_rounded_away(share: float) -> None:
    with pytest.raises(UsageError):
        value_of(share)


@needs_envoy
@pytest.mark.parametrize(
    ("value", "share"),
    [
        ("12.9", 0.12),
        ("{numerator: 30}", 0.3),
        ("{numerator: 5500, denominator: TEN_THOUSAND}", 0.55),
        ('{"numerator":333333,"denominator":"MILLION"}', 0.333333),
        ("{numerator: 20000, denominator: TEN_THOUSAND}", 1.0),
        ("250000", 1.0),
        ("0.9", 0.0),
    ],
)
def test_a_value_that_somebody_set_means_to_us_what_it_means_to_envoy(
    lonely: EmbeddedEnvoy, value: str, share: float
) -> None:
    modify(lonely, value)
    assert open_ingress(lonely.control).read().candidate_share == share
    assert binomtest(candidates(lonely, 1000), 1000, share).pvalue > 1e-5


@needs_envoy
@pytest.mark.parametrize("value", ["abc", "-5", "012", "0x10", '"50"', "{numerator: -5}", "1e1", "nan"])
def test_a_value_that_means_nothing_is_no_share_and_can_be_repaired(lonely: EmbeddedEnvoy, value: str) -> None:
    ingress = open_ingress(lonely.control)
    modify(lonely, value)
    with pytest.raises(WorldError, match=f"canary.candidate is {re.escape(value)}: expected a percentage"):
        ingress.read()
    ingress.set(0.0)
    assert ingress.read().candidate_share == 0.0
    assert candidates(lonely, 50) == 0


@needs_envoy
def test_the_same_again_sends_nothing(lonely: EmbeddedEnvoy, monkeypatch: pytest.MonkeyPatch) -> None:
    ingress = open_ingress(lonely.control)
    ingress.set(1 / 3)
    ingress.header({"B": "candidate"})
    sent: list[str] = []
    answer = asking.Asking.answer

    def spied(self: asking.Asking, method: str, path: str, body: Any = None) -> tuple[int, str]:
        sent.append(method)
        return answer(self, method, path, body)

    monkeypatch.setattr(asking.Asking, "answer", spied)
    ingress.set(1 / 3)
    ingress.header({"B": "candidate"})
    assert set(sent) == {"GET"}
    ingress.header({})
    ingress.set(0.0)
    assert sent.count("POST") == 2


@needs_envoy
def test_what_the_configuration_has_no_rule_for_is_refused(lonely: EmbeddedEnvoy) -> None:
    ingress = open_ingress(lonely.control)
    with pytest.raises(UsageError, match=r"no rule sends the header's value C to the candidate: .*canary.header.C"):
        ingress.header({"A": "baseline", "C": "candidate"})
    assert ingress.read().headers == {}, "nothing of it was done"
    with pytest.raises(UsageError, match="not to stable"):
        ingress.header({"A": "stable"})
    other = open_ingress(f"{lonely.control}?headers=nothing.here")
    other.header({})
    with pytest.raises(UsageError, match="there are: none"):
        other.header({"A": "baseline"})
    modify(lonely, "50", "canary.header.A.candidate")
    with pytest.raises(WorldError, match=r"canary\.header\.A\.candidate is 50: expected 0 or 100"):
        ingress.read()
    ingress.header({})
    assert ingress.read().headers == {}


@needs_envoy
def test_what_is_not_there_is_named_and_is_no_zero(lonely: EmbeddedEnvoy) -> None:
    typo = open_ingress(f"{lonely.control}?key=canary.candidat")
    for ask in (typo.read, lambda: typo.set(0.0), lambda: typo.drain("candidate", 1)):
        with pytest.raises(WorldError, match=r"no runtime key canary.candidat: .*there are: canary.candidate, "):
            ask()
    with pytest.raises(UsageError, match="it has no cluster v2; it has "):
        open_ingress(f"{lonely.control}?candidate=v2").read()
    split = open_ingress(lonely.control).read()
    assert split.down == ("baseline", "candidate")


@needs_envoy
def test_a_request_is_counted_once_however_often_it_is_tried(tmp_path: Path) -> None:
    """Neither the tries of a retry nor the requests that found no connection are others' requests."""
    retry = "timeout: 0s, retry_policy: {retry_on: connect-failure, num_retries: 3}}"
    with Changed(tmp_path, {"timeout: 0s}": retry}, versions={"baseline": 1, "candidate": 2}) as router:
        connection = http.client.HTTPConnection(router.http_url.partition("://")[2], timeout=60)
        for version in (1, 2, 2):
            connection.request("GET", f"/v2/models/m/versions/{version}")
            answer = connection.getresponse()
            assert b"retried" in answer.read()
            assert answer.getheader("x-served-by") == ("baseline" if version == 1 else "candidate")
        connection.close()
        split = open_ingress(router.control).read()
        assert split.requests == {"baseline": 1, "candidate": 2}
        assert split.in_flight == {"baseline": 0, "candidate": 0}


@needs_envoy
def test_an_envoy_that_cannot_be_changed_says_why(tmp_path: Path) -> None:
    with Changed(tmp_path / "none", {"admin_layer: {}": "static_layer: {}"}) as router:
        ingress = open_ingress(router.control)
        assert ingress.read().candidate_share == 0.0
        with pytest.raises(WorldError, match=r"its runtime cannot be changed: a layer `admin_layer: \{\}` is expected"):
            ingress.set(0.5)
        assert candidates(router, 50) == 0
    later = "admin_layer: {}\n    - name: last\n      static_layer: {canary.candidate: 7, canary.header.A.candidate: 0}"
    with Changed(tmp_path / "later", {"admin_layer: {}": later}) as router:
        ingress = open_ingress(router.control)
        assert ingress.read().candidate_share == 0.07
        with pytest.raises(WorldError, match=r"canary.candidate was set to 50, but 7 is in force \(a later layer"):
            ingress.set(0.5)
        with pytest.raises(WorldError, match=r"told to route \{'A': 'candidate'\}, but its runtime says \{\}"):
            ingress.header({"A": "candidate"})


@needs_envoy
def test_statistics_that_are_not_kept_are_not_zero(tmp_path: Path) -> None:
    none = "stats_config: {stats_matcher: {exclusion_list: {patterns: [{prefix: cluster.}]}}}\n\nlayered_runtime:"
    with Changed(tmp_path, {"layered_runtime:": none}) as router:
        ingress = open_ingress(router.control)
        split = ingress.read()
        assert (split.requests, split.in_flight) == (None, None)
        drained = ingress.drain("candidate", 0.3)
        assert drained.left is None
        assert drained.took_s >= 0.3


@needs_envoy
def test_a_dead_envoy_is_named_in_one_line(tmp_path: Path) -> None:
    router = Changed(tmp_path, {})
    with router:
        ingress = open_ingress(router.control)
        ingress.set(0.5)
        psutil.Process(router.pid).send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 60
        while router.alive:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(ServerDied, match=r"the embedded Envoy died \(signal 9\)"):
            router.check()
        for ask in (ingress.read, lambda: ingress.set(0.0), lambda: ingress.header({})):
            with pytest.raises(Unreachable, match=f"^{re.escape(router.control)}: GET /runtime: ") as error:
                ask()
            assert "\n" not in str(error.value)
    ingress.close()


def test_an_envoy_that_hangs_does_not_hold_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        ingress = open_ingress(f"envoy+http://127.0.0.1:{hanging.getsockname()[1]}")
        with pytest.raises(Unreachable, match="no answer to GET /runtime in "):
            ingress.set(0.0)
        ingress.close()


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{}", b'{"entries": 3}', b'{"entries": {"canary.candidate": 3}}', b"<"]
)
def test_who_is_no_envoy_is_no_envoy_at_zero(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            other, _ = server.accept()
            with other:
                other.recv(65536)
                other.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + answer)

        thread = threading.Thread(target=serve)
        thread.start()
        ingress = open_ingress(f"envoy+http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(WorldError, match=r"JSON object|no entries|no runtime key"):
            ingress.read()
        ingress.close()
        thread.join()


@pytest.mark.parametrize(
    "target",
    [
        "envoy+unix:///run/envoy.sock",
        "envoy+http://",
        "envoy+http://127.0.0.1:99999999",
        "envoy+http://127.0.0.1:9901?kee=x",
        "envoy+http://127.0.0.1:9901?key=",
        "envoy+http://127.0.0.1:9901?baseline=v1&candidate=v1",
        "envoy+http://me:secret@127.0.0.1:9901",
    ],
)
def test_what_is_no_address_is_refused(target: str) -> None:
    with pytest.raises(UsageError) as error:
        open_ingress(target)
    assert "secret" not in str(error.value)


@needs_envoy
def test_the_example_is_a_configuration_as_it_stands() -> None:
    example = scenarios_dir() / "ingress" / "envoy.yaml"
    done = subprocess.run(
        [str(embedded._binary()), "--mode", "validate", "-c", str(example), "--log-level", "warning"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("OK")


@needs_envoy
def test_no_two_of_them_share_a_port(lonely: EmbeddedEnvoy, tmp_path: Path) -> None:
    """Half of the clients would get the split of one that nobody knows of any more."""
    text = (lonely.folder / "envoy.yaml").read_text()
    admin = lonely.control.rpartition(":")[2]
    (tmp_path / "envoy.yaml").write_text(text.replace(admin, str(free_port())))
    done = subprocess.run(
        [str(embedded._binary()), "-c", str(tmp_path / "envoy.yaml"), "--disable-hot-restart"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Address already in use" in done.stderr


@needs_envoy
def test_it_is_stopped_as_a_whole_and_starts_again(tmp_path: Path) -> None:
    router = Changed(tmp_path, {}).start()
    process = psutil.Process(router.pid)
    with pytest.raises(UsageError, match="was started already"):
        router.start()
    router.stop()
    router.stop()
    assert gone(process)
    assert router.pid == 0
    with router:
        assert open_ingress(router.control).read().candidate_share == 0.0


@needs_envoy
def test_a_configuration_that_is_wrong_is_told_in_envoys_words(tmp_path: Path) -> None:
    with pytest.raises(ServerDied, match=r"the embedded Envoy did not start \(exit status 1\): .*allow_path"):
        Changed(tmp_path, {"allow_paths:": "allow_path:"}).start()
