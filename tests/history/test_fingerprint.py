"""What parts a history into segments, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from harness.history.fingerprint import changed, fingerprint, in_words, without
from tests.history.factory import GPU, meta


def host(**other: Any) -> dict[str, Any]:
    return {**meta(0)["host"], **other}


BEFORE = fingerprint(meta(0))


def test_all_that_can_change_times_is_told() -> None:
    assert BEFORE == {
        "server at": "gpu-box", "cpu": "AMD EPYC 9654", "cores": "96 (192 threads)", "memory": "1024 GiB",
        "gpus": "1 x NVIDIA H200 (140 GiB)", "driver": "550.54.15", "cuda": "12.4", "triton": "2.51.0",
        "python": "3.11", "triton-canary": "0.1",
    }  # fmt: skip
    assert "driver 550.54.15" in in_words(BEFORE)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"host": host(gpus=[{**GPU, "driver": "555.42.06"}])}, "driver 550.54.15 -> 555.42.06"),
        ({"host": host(gpus=[{**GPU, "cuda": "12.6"}])}, "cuda 12.4 -> 12.6"),
        (
            {"host": host(gpus=[GPU, {**GPU, "index": 1}])},
            "gpus 1 x NVIDIA H200 (140 GiB) -> 2 x NVIDIA H200 (140 GiB)",
        ),
        (
            {"host": host(gpus=[{**GPU, "mig": [{"memory_bytes": 18 << 30}] * 7}])},
            "gpus 1 x NVIDIA H200 (140 GiB) -> 1 x NVIDIA H200 (140 GiB, MIG 7 of 18 GiB)",
        ),
        ({"host": host(cpu="AMD EPYC 9755")}, "cpu AMD EPYC 9654 -> AMD EPYC 9755"),
        ({"host": host(cores=64, threads=128)}, "cores 96 (192 threads) -> 64 (128 threads)"),
        ({"host": host(memory_bytes=1 << 39)}, "memory 1024 GiB -> 512 GiB"),
        ({"server": {"name": "triton", "version": "2.60.0"}}, "triton 2.51.0 -> 2.60.0"),
        ({"software": {"triton-canary": "0.2.0", "python": "3.11.7"}}, "triton-canary 0.1 -> 0.2"),
        ({"software": {"triton-canary": "0.1.0", "python": "3.12.1"}}, "python 3.11 -> 3.12"),
        ({"server": {}}, "triton 2.51.0 -> unknown"),
    ],
)
def test_a_change_says_what_it_is(other: dict[str, Any], says: str) -> None:
    assert changed(BEFORE, fingerprint(meta(3, **other))) == says


@pytest.mark.parametrize(
    "other",
    [
        {"host": host(kernel="Linux 6.8.0-99", memory_bytes=(1 << 40) - (9 << 20))},
        {"host": host(gpus=[{**GPU, "uuid": "GPU-other", "vbios": "96.1"}])},
        {"software": {"triton-canary": "0.1.9", "python": "3.11.11", "tritonclient": "2.80.0", "numpy": "2.0"}},
        {"seed": 99, "arms": {"candidate": {"url": "grpc://gpu-box:9999", "model": "llm", "version": 77}}},
    ],
)
def test_what_does_not_matter_parts_nothing(other: dict[str, Any]) -> None:
    assert changed(BEFORE, fingerprint(meta(3, **other))) == ""


@pytest.mark.parametrize("size", [3.8, 7.6, 15.5, 31.3, 62.5, 125.5, 251.5, 503.5, 1007.5, 1024.0])
def test_a_few_mib_of_memory_part_nothing_wherever_a_half_gib_lies(size: float) -> None:
    one, other = (fingerprint({"host": {"memory_bytes": size * 2**30 + by * 2**20}}) for by in (-9, 0))
    assert one == other


def test_several_changes_are_all_told() -> None:
    after = fingerprint(meta(1, host=host(gpus=[{**GPU, "driver": "555.42.06"}]), server={"version": "2.52.0"}))
    assert changed(BEFORE, after) == "driver 550.54.15 -> 555.42.06; triton 2.51.0 -> 2.52.0"
    assert changed(without(BEFORE, ["triton"]), without(after, ["triton"])) == "driver 550.54.15 -> 555.42.06"


@pytest.mark.parametrize(
    ("target", "arms", "where"),
    [
        ({"server": "embedded"}, {"candidate": {"url": "grpc://127.0.0.1:41227"}}, "embedded"),
        ({"url": "grpc://127.0.0.1:8001"}, {}, "this machine"),
        (
            {},
            {arm: {"url": f"grpc://{arm}.svc:8001"} for arm in ("baseline", "candidate")},
            "baseline.svc, candidate.svc",
        ),
    ],
)
def test_where_the_server_is(target: dict[str, Any], arms: dict[str, Any], where: str) -> None:
    assert fingerprint({"scenario": {"target": target}, "arms": arms})["server at"] == where


def test_a_recording_of_another_tool_has_none() -> None:
    assert fingerprint({}) == {}
    assert in_words({}) == "unknown"
