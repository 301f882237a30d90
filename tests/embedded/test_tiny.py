"""`tiny` on a real Triton: identity, and what it can be told while it serves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.embedded import EmbeddedServer, change_settings
from harness.failures import kind_of

pytestmark = pytest.mark.triton
VALUES = np.linspace(-3, 7, 16, dtype=np.float32)


class Tiny:
    def __init__(self, server: EmbeddedServer) -> None:
        import tritonclient.grpc as grpc

        self._client = grpc.InferenceServerClient(server.grpc_url.removeprefix("grpc://"))
        self._input = grpc.InferInput("INPUT", [16], "FP32")
        self._input.set_data_from_numpy(VALUES)

    def infer(self, version: int) -> Any:
        return self._client.infer("tiny", [self._input], str(version), client_timeout=60).as_numpy("OUTPUT")

    def seconds(self, version: int, requests: int) -> float:
        began = time.perf_counter()
        for _ in range(requests):
            self.infer(version)
        return (time.perf_counter() - began) / requests

    def failed(self, version: int, requests: int) -> list[str]:
        from tritonclient.utils import InferenceServerException

        messages = []
        for _ in range(requests):
            try:
                self.infer(version)
            except InferenceServerException as error:
                messages.append(str(error.message()))
        return messages

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def tiny(server: EmbeddedServer, repository: Path) -> Iterator[Tiny]:
    client = Tiny(server)
    yield client
    (repository / "tiny/4/settings.json").unlink(missing_ok=True)
    client.close()


def test_it_is_the_identity(tiny: Tiny) -> None:
    np.testing.assert_array_equal(tiny.infer(1), VALUES)


def test_slow_is_slower(tiny: Tiny) -> None:
    """By the shortest of many, in alternation: a busy machine delays the end of a sleep."""
    times = [(tiny.seconds(1, 1), tiny.seconds(2, 1)) for _ in range(60)]
    reference, slow = np.min(times, axis=0)
    assert 1.05 < slow / reference < 1.6, (reference, slow)


def test_delay_offset_and_failures_change_while_it_serves(tiny: Tiny, repository: Path) -> None:
    change_settings(repository, 4, delay_ms=60, offset=0.5)
    assert tiny.seconds(4, 3) >= 0.06
    np.testing.assert_allclose(tiny.infer(4), VALUES + 0.5)
    change_settings(repository, 4, delay_ms=0, fail=0.3)
    messages = tiny.failed(4, 300)
    assert 50 < len(messages) < 140  # 90 expected; six standard deviations
    assert set(messages) == {"tiny was told to fail"}
    (repository / "tiny/4/settings.json").unlink()
    assert tiny.failed(4, 40) == []


def test_jitter_adds_its_mean(tiny: Tiny, repository: Path) -> None:
    change_settings(repository, 4, delay_ms=0)
    # The least of three, because a machine that is taken away for a moment adds to any of them.
    plain = min(tiny.seconds(4, 40) for _ in range(3))
    change_settings(repository, 4, delay_ms=0, jitter_ms=8)
    assert 0.004 < min(tiny.seconds(4, 40) for _ in range(3)) - plain < 0.02


def test_settings_that_make_no_sense_fail_requests_not_the_model(tiny: Tiny, repository: Path) -> None:
    (repository / "tiny/4/settings.json").write_text('{"delay": 1}')
    assert "unknown setting 'delay'" in tiny.failed(4, 1)[0]
    (repository / "tiny/4/settings.json").unlink()
    assert tiny.failed(4, 5) == []


def test_a_crash_ends_one_instance_and_the_others_serve(tiny: Tiny, repository: Path) -> None:
    change_settings(repository, 5, crash=True)
    (message,) = tiny.failed(5, 1)
    assert kind_of(message, "INTERNAL") == "stub died", message
    (repository / "tiny/5/settings.json").unlink()
    failures = tiny.failed(5, 8)
    assert 1 <= len(failures) <= 4, "Triton does not start the dead instance again: its share fails"
    np.testing.assert_array_equal(tiny.infer(1), VALUES)


def test_a_version_that_runs_out_of_memory_says_so_and_serves_on(tiny: Tiny, repository: Path) -> None:
    """The kernel refuses what lies beyond the limit of the instance: NumPy's own error, as any model's would be."""
    change_settings(repository, 4, delay_ms=0, hold_mb=64, limit_mb=256)
    assert tiny.failed(4, 8) == [], "it fits"
    change_settings(repository, 4, delay_ms=0, hold_mb=64, limit_mb=32, heavy=0.5)
    messages = tiny.failed(4, 40)
    assert 5 < len(messages) < 35
    assert all("MemoryError: Unable to allocate 64.0 MiB" in message for message in messages)
    assert {kind_of(message, "INTERNAL") for message in messages} == {"out of memory"}
    change_settings(repository, 4, delay_ms=0, hold_mb=64)
    assert tiny.failed(4, 20) == [], "the limit is gone, and every instance serves"
