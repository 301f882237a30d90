"""Others who change the same model, a changed configuration, and servers that fail in the middle of a load."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import ChangedMeanwhile, LoadFailed, Unreachable, UsageError
from harness.triton import Control
from tests.triton.conftest import GOOD, HELD, MODEL
from tests.triton.held import holding, in_progress
from tests.triton.proxy import HAPROXY, proxy

pytestmark = pytest.mark.triton

NEVER = 2  # a version that takes ten minutes to load


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as running:
        yield running


def test_another_set_than_expected_is_left_alone(control: Control, repository: Path) -> None:
    before = control.index()
    with pytest.raises(
        ChangedMeanwhile, match=r"tiny: somebody else changed what serves: READY before: 1, 2, now: 1; nothing was sent"
    ):
        control.set_versions(MODEL, [1, GOOD], repository=repository, expected=[GOOD, 1])
    assert control.index() == before
    assert control.set_versions(MODEL, [1, GOOD], expected=[1]).after == (1, GOOD)


@pytest.mark.parametrize("url", ["grpc"], indirect=True)
def test_a_load_in_progress_is_waited_for(
    control: Control,
    server: EmbeddedServer,
    repository: Path,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is let go once we have seen it."""
    with holding(repository, "load") as release:
        others = in_progress(server, MODEL, pool, lambda: other(server).set_versions(MODEL, [1, HELD]))
        look = control._server.index

        def seen() -> list[dict[str, Any]]:
            rows = look()
            release()
            return rows

        monkeypatch.setattr(control._server, "index", seen)
        with pytest.raises(ChangedMeanwhile, match=r"READY before: 1, now: 1, 4; nothing was sent"):
            control.set_versions(MODEL, [1, GOOD], expected=[1])
    assert others.result().after == (1, HELD)


@pytest.mark.parametrize("url", ["grpc"], indirect=True)
def test_a_load_in_progress_that_lasts_too_long(
    url: str, control: Control, server: EmbeddedServer, repository: Path, pool: ThreadPoolExecutor
) -> None:
    with holding(repository, "load"):
        others = in_progress(server, MODEL, pool, lambda: other(server).set_versions(MODEL, [1, HELD]))
        with (
            Control(url, load_timeout_s=0.1) as hasty,
            pytest.raises(
                ChangedMeanwhile, match=r"version 4 is LOADING by somebody else's call, and still after 0.1 s"
            ),
        ):
            hasty.set_versions(MODEL, [1, GOOD])
    assert others.result().after == (1, HELD)


@pytest.mark.parametrize("url", ["grpc"], indirect=True)
@pytest.mark.parametrize("change", ["unload", "set"])
def test_a_change_that_comes_after_ours_is_seen(
    control: Control,
    server: EmbeddedServer,
    repository: Path,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    """Triton takes calls for a model one after the other, so the other's comes once ours is through."""
    us, others = other(server), control._server
    load, changed = us._server.load, threading.Event()

    def answered_late(*args: Any) -> None:
        """Triton takes up the other's call a little after it has answered ours: we look only then."""
        load(*args)
        assert changed.wait(60)

    monkeypatch.setattr(us._server, "load", answered_late)
    with holding(repository, "load"):
        ours = in_progress(server, MODEL, pool, lambda: us.set_versions(MODEL, [1, HELD], repository=repository))
        if change == "unload":
            sent = pool.submit(others.unload, MODEL, 60)
        else:
            sent = pool.submit(others.load, MODEL, override(control, [1, GOOD]), 60)
    sent.result()
    changed.set()
    with pytest.raises(ChangedMeanwhile, match=r"somebody else changed .* versions 1, 4 were set, but") as caught:
        ours.result()
    now = "NO version is READY now" if change == "unload" else "READY now: 1, 2"
    assert now in str(caught.value)


@pytest.mark.parametrize("url", ["grpc"], indirect=True)
def test_a_changed_configuration_is_taken_from_the_repository(control: Control, repository: Path) -> None:
    config = repository / MODEL / "config.pbtxt"
    before = config.read_text()
    config.write_text(before + 'parameters { key: "note" value: { string_value: "new" } }\n')
    try:
        assert not control.set_versions(MODEL, [1], repository=repository).called
        assert "parameters" not in control._server.config(MODEL, 1)
        assert control.set_versions(MODEL, [1], repository=repository, refresh=True).called
        assert control._server.config(MODEL, 1)["parameters"] == {"note": {"string_value": "new"}}
        config.write_text(before.replace('"python"', '"nosuch"'))
        with pytest.raises(LoadFailed, match=r"tiny: load failed: .*nosuch.*; READY now: 1"):
            control.set_versions(MODEL, [1], repository=repository, refresh=True)
    finally:
        config.write_text(before)
        control.set_versions(MODEL, [1], repository=repository, refresh=True)
    with pytest.raises(UsageError, match="say where it is"):
        control.set_versions(MODEL, [1], refresh=True)


@pytest.fixture
def doomed(pool: ThreadPoolExecutor, tmp_path: Path) -> Iterator[EmbeddedServer]:
    """Serves version 1; version 2 takes longer to load than any test. It ends before `pool`, which waits for calls."""
    build_repository(tmp_path / "models", {MODEL: {1: {}, NEVER: {"load_s": 600.0}}})
    config = tmp_path / "models" / MODEL / "config.pbtxt"
    config.write_text(re.sub(r"count: \d+", "count: 1", config.read_text()))
    with EmbeddedServer(tmp_path / "models", tmp_path / "log") as server:
        yield server.start({MODEL: [1]})


@pytest.mark.parametrize("wire", ["grpc", "http"])
def test_a_server_that_dies_in_the_middle_of_a_load(
    doomed: EmbeddedServer, pool: ThreadPoolExecutor, wire: str
) -> None:
    url = doomed.grpc_url if wire == "grpc" else doomed.http_url
    with Control(url) as control:
        load = in_progress(doomed, MODEL, pool, lambda: control.set_versions(MODEL, [1, NEVER]))
        os.kill(doomed.pid, signal.SIGKILL)
        with pytest.raises(Unreachable, match=rf"{url}: .*in the middle of loading versions 1, 2 of tiny") as caught:
            load.result()
    assert "(READY before: 1); a server restarted in explicit mode loads nothing by itself" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed: tests/system-packages.sh does it")
@pytest.mark.parametrize(
    ("wire", "mode"), [("http", "http"), pytest.param("http", "tcp", marks=pytest.mark.slow), ("grpc", "tcp")]
)
def test_a_proxy_that_gives_up_on_a_load_is_not_the_end_of_it(
    server: EmbeddedServer,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wire: str,
    mode: str,
) -> None:
    """It answers 504, or closes the connection; what Triton made of the load is seen in the index."""
    behind = server.http_url if wire == "http" else server.grpc_url
    with Control(server.grpc_url) as direct:
        direct.set_versions(MODEL, [1], repository=repository)
    with (
        holding(repository, "load") as release,
        proxy(tmp_path, behind.partition("://")[2], mode=mode, patience="500ms") as port,
        Control(f"{wire}://127.0.0.1:{port}") as control,
    ):
        load = control._server.load

        def given_up(*args: Any) -> None:
            try:
                load(*args)
            finally:
                release()

        monkeypatch.setattr(control._server, "load", given_up)
        assert control.set_versions(MODEL, [1, HELD], repository=repository).after == (1, HELD)


class Cut(grpc.RpcError):
    """As of a connection that gRPC has not yet noticed to be closed."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "Stream removed (Delayed close due to in-progress write (Socket closed))"


def test_a_connection_that_was_cut_takes_the_next_questions_with_it(
    server: EmbeddedServer, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Control(server.grpc_url) as control:
        control.set_versions(MODEL, [1], repository=repository)
        stub = control._server._stub
        load, live, lost = stub.RepositoryModelLoad, stub.ServerLive, [1, 2, 3]

        def cut(*args: Any, **options: Any) -> None:
            load(*args, **options)
            raise Cut

        def asked(*args: Any, **options: Any) -> Any:
            if lost:
                lost.pop()
                raise Cut
            return live(*args, **options)

        monkeypatch.setattr(stub, "RepositoryModelLoad", cut)
        monkeypatch.setattr(stub, "ServerLive", asked)
        assert control.set_versions(MODEL, [1, GOOD], repository=repository).after == (1, GOOD)
        assert not lost


def other(server: EmbeddedServer) -> Control:
    """The second operator."""
    return Control(server.grpc_url)


def override(control: Control, versions: list[int]) -> str:
    config = control._server.config(MODEL, 1)
    return json.dumps({**config, "version_policy": {"specific": {"versions": versions}}})
