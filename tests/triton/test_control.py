"""Control against the real Triton, over both wires."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.embedded import EmbeddedServer
from harness.errors import LoadFailed, LoadMismatch, UsageError, VersionMissing
from harness.triton import Control, Refused
from harness.types import TensorSpec
from tests.triton.conftest import BAD, GOOD, HELD, MODEL, Prober, stubs
from tests.triton.held import holding
from tests.waiting import until

pytestmark = pytest.mark.triton


def test_second_version_joins_and_leaves_while_the_first_answers(
    control: Control, repository: Path, server: EmbeddedServer, prober: Callable[[int], Prober]
) -> None:
    processes = stubs(server, 1)
    with prober(1) as asking:
        joined = control.set_versions(MODEL, [1, GOOD], repository=repository)
        asking.more(20)
        left = control.set_versions(MODEL, [1], repository=repository)
        asking.more(20)
    assert (joined.before, joined.after, joined.called) == ((1,), (1, GOOD), True)
    assert (left.before, left.after, left.draining) == ((1, GOOD), (1,), ())
    assert asking.failed == []
    assert processes
    assert stubs(server, 1) == processes
    assert stubs(server, GOOD) == set()


def test_the_set_as_it_is_sends_nothing(control: Control, server: EmbeddedServer) -> None:
    control.set_versions(MODEL, [1, GOOD])
    processes = stubs(server, GOOD)
    change = control.set_versions(MODEL, [GOOD, 1, 1])
    assert (change.called, change.before, change.after) == (False, (1, GOOD), (1, GOOD))
    assert stubs(server, GOOD) == processes


def test_missing_version_is_refused_before_any_call(control: Control, repository: Path) -> None:
    before = control.index()
    with pytest.raises(VersionMissing, match=r"version 9 is not .* \(present: 1, 2, 3, 4\)"):
        control.set_versions(MODEL, [1, 9], repository=repository)
    with pytest.raises(VersionMissing, match="nosuch: is not in the repository"):
        control.set_versions("nosuch", [1], repository=repository)
    assert control.index() == before


@pytest.mark.parametrize(("wanted", "words"), [([], "unload it explicitly"), ([0, 1], "0 is not a model version")])
def test_sets_that_cannot_be_meant(control: Control, wanted: list[int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        control.set_versions(MODEL, wanted)
    assert control.loaded(MODEL) == (1,)


@pytest.mark.parametrize("url", ["grpc"], indirect=True)
def test_version_that_silently_left_is_an_error(control: Control, repository: Path, tmp_path: Path) -> None:
    """The directory of a serving version is gone, and this machine does not see the repository."""
    control.set_versions(MODEL, [1, GOOD])
    shutil.move(repository / MODEL / str(GOOD), tmp_path / "away")
    try:
        with pytest.raises(LoadMismatch, match=r"reported success, but versions 2, 9 are not READY") as caught:
            control.set_versions(MODEL, [1, GOOD, 9])
        assert "READY now: 1; LOST by this call: 2" in str(caught.value)
    finally:
        shutil.move(tmp_path / "away", repository / MODEL / str(GOOD))


def test_failing_load_keeps_the_first_version(
    control: Control, repository: Path, prober: Callable[[int], Prober]
) -> None:
    with prober(1) as asking, pytest.raises(LoadFailed) as caught:
        control.set_versions(MODEL, [1, BAD], repository=repository)
    words = str(caught.value)
    assert "\n" not in words
    assert "tiny: load of version 3 failed:" in words
    assert "tiny was told to fail in loading" in words
    assert "READY now: 1; the server as a whole says not ready" in words
    assert asking.failed == []
    assert control.ready(MODEL, 1)
    assert not control.ready(MODEL, BAD)
    assert not control.server_ready()
    state = control.index().of_version(MODEL, BAD)
    assert state is not None
    assert state.state == "UNAVAILABLE"
    assert "told to fail" in state.reason


def test_load_that_takes_too_long(
    url: str, control: Control, server: EmbeddedServer, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        holding(repository, "load"),
        Control(server.grpc_url) as watching,
        Control(url, load_timeout_s=0.5) as hasty,
    ):
        load = hasty._server.load

        def begun(*args: Any) -> None:
            """A busy Triton may not have heard of the call when patience ends, and then it never does: once more."""
            for _ in range(120):
                try:
                    load(*args)
                except Refused:
                    if watching.index().in_state(MODEL, "LOADING"):
                        raise

        monkeypatch.setattr(hasty._server, "load", begun)
        with pytest.raises(
            LoadFailed,
            match=r"version 4 is still LOADING when patience ended; Triton may still be at work.*; READY now: 1$",
        ):
            hasty.set_versions(MODEL, [1, HELD], repository=repository)
    control.wait_ready(MODEL, HELD, 60)
    assert control.loaded(MODEL) == (1, HELD)


@pytest.mark.parametrize("url", ["grpc"], indirect=True)
def test_version_with_requests_in_flight_drains(
    url: str, control: Control, server: EmbeddedServer, repository: Path
) -> None:
    """One executes, one waits behind it; both are answered, and the call says that it did not wait."""
    control.set_versions(MODEL, [1, HELD])
    infer = f"{server.http_url}/v2/models/{MODEL}/versions/{HELD}/infer"
    waits = f'nv_inference_pending_request_count{{model="{MODEL}",version="{HELD}"}} 1'
    with ThreadPoolExecutor(2) as pool:
        with holding(repository, "answer"):
            asked = [pool.submit(httpx.post, infer, json=Prober.BODY, timeout=120)]
            until((repository / "answer-waits").exists, "the first request executes")
            asked.append(pool.submit(httpx.post, infer, json=Prober.BODY, timeout=120))
            until(lambda: waits in httpx.get(server.metrics_url).text, "the second request waits")
            with Control(url, drain_timeout_s=0.2) as hasty:
                change = hasty.set_versions(MODEL, [1])
            assert (change.after, change.draining) == ((1,), (HELD,))
        assert [answer.result().status_code for answer in asked] == [200, 200]


@pytest.mark.parametrize("url", ["grpc"], indirect=True)
def test_model_that_is_not_loaded(control: Control, repository: Path) -> None:
    assert control.unload(MODEL).after == ()
    assert control.loaded(MODEL) == ()
    assert control.unload(MODEL).before == ()
    # Seen from here, its config.pbtxt is the base; unseen, the server's own load comes first.
    assert control.set_versions(MODEL, [GOOD], repository=repository).after == (GOOD,)
    control.unload(MODEL)
    assert control.set_versions(MODEL, [GOOD]).after == (GOOD,)
    info = control.metadata(MODEL)
    assert info.inputs == (TensorSpec("INPUT", "FP32", (16,)),)
    assert info.versions == (GOOD,)


def test_unknown_model(control: Control) -> None:
    assert control.loaded("nosuch") == ()
    assert not control.ready("nosuch", 1)
    assert not control.ready(MODEL, 99)
    with pytest.raises(Refused, match="unknown model: 'nosuch'"):
        control.metadata("nosuch")
    with pytest.raises(LoadFailed, match=r"nosuch: load of version 1 failed: .*; NO version is READY now"):
        control.set_versions("nosuch", [1])


def test_metadata_and_server(control: Control) -> None:
    info = control.metadata(MODEL, 1)
    assert (info.name, info.platform, info.versions, info.max_batch_size) == (MODEL, "python", (1,), 0)
    assert info.outputs == (TensorSpec("OUTPUT", "FP32", (16,)),)
    assert not info.decoupled
    server = control.server()
    assert (server["name"], server["version"]) == ("triton", "2.51.0")
    assert "model_repository" in server["extensions"]
    assert control.live()


@pytest.mark.parametrize("url", ["grpc"], indirect=True)
def test_wait_ready_says_why_not(control: Control) -> None:
    with pytest.raises(LoadFailed, match=r"version 9 is not ready after 0.1 s: not in the index"):
        control.wait_ready(MODEL, 9, 0.1)
