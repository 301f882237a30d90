"""`tiny` on a real Triton: identity, and what it can be told while it serves."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from harness.embedded import EmbeddedServer, build_repository, change_settings
from harness.embedded import tiny as model
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
    """By the shortest of many, in alternation: a busy machine only ever adds time."""
    best = {1: float("inf"), 2: float("inf")}
    for rounds in range(1, 1201):
        for version in best:
            best[version] = min(best[version], tiny.seconds(version, 1))
        if rounds >= 60 and 1.05 < best[2] / best[1] < 1.6:
            return
    pytest.fail(f"after {rounds} rounds: {best}")


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


def test_jitter_adds_its_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the server: what requests are told to sleep, not what a busy machine makes of it."""
    slept: list[float] = []
    monkeypatch.setattr(model, "time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr(model, "end_with_parent", lambda: None)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", MagicMock())
    build_repository(tmp_path, {"tiny": {1: {"delay_ms": 2}}})
    instance = model.TritonPythonModel()
    instance.initialize(
        {"model_repository": str(tmp_path / "tiny"), "model_version": "1", "model_instance_name": "tiny_0_0"}
    )
    slept.clear()
    instance.execute([None] * 3)
    assert slept == [0.002] * 3
    slept.clear()
    change_settings(tmp_path, 1, delay_ms=2, jitter_ms=8)
    instance.execute([None] * 2000)
    assert len(set(slept)) == 2000
    assert min(slept) >= 0.002
    assert abs(np.mean(slept) - 0.010) < 0.001  # the seed is fixed; six standard deviations for any other


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
    failures, asked = 0, 0
    # Triton need not deal them out evenly.
    while asked < 8 or not 1 <= failures <= asked / 2:
        assert asked < 60, f"Triton does not start the dead instance again: its share fails, not {failures} of {asked}"
        failures, asked = failures + len(tiny.failed(5, 1)), asked + 1
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
