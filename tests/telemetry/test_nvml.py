"""The real pynvml over a fake C library, in a process of its own: the loader must find it at the start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
READ = """
import json
from harness.telemetry import Nvml, hardware
nvml = Nvml()
print(json.dumps({"missing": nvml.missing(), "values": nvml.read(), "gpus": hardware()["gpus"]}))
"""
NONE = """
import json
from harness.telemetry import Nvml, SourceUnavailable, hardware
nvml, said = Nvml(), ""
try:
    nvml.read()
except SourceUnavailable as error:
    said = str(error)
print(json.dumps({
    "missing": nvml.missing(), "said": said, "devices": nvml.devices(), "gpus": hardware()["gpus"],
}))
"""
LOSE = """
import json, os
from pathlib import Path
from harness.telemetry import Nvml, SourceUnavailable
nvml, lost, said = Nvml(), Path(os.environ["FAKE_NVML_LOST"]), []
before = len(nvml.read())
lost.touch()
for _ in range(2):
    try:
        nvml.read()
    except SourceUnavailable as error:
        said.append(str(error))
lost.unlink()
print(json.dumps({"before": before, "said": said, "after": len(nvml.read())}))
"""


def with_fake(folder: Path, code: str, *defines: str) -> dict[str, Any]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: the fake NVML library cannot be made")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, *defines, SOURCE], check=True)
    return in_process(folder, code)


def in_process(folder: Path, code: str) -> dict[str, Any]:
    """What `code` prints, where the library is the one in `folder`."""
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder),
        "FAKE_NVML_LOST": str(folder / "lost"),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_every_field_of_each_gpu_and_none_that_it_lacks(tmp_path: Path) -> None:
    result = with_fake(tmp_path, READ)
    assert result["missing"] is None
    values = {(device, metric): (value, unit) for _, device, metric, value, unit in result["values"]}
    assert values == {
        ("gpu0", "gpu.memory.used"): (3000, "bytes"),
        ("gpu0", "gpu.memory.free"): (5000, "bytes"),
        ("gpu0", "gpu.memory.total"): (8000, "bytes"),
        ("gpu0", "gpu.utilization"): (0.75, "ratio"),
        ("gpu0", "gpu.memory.utilization"): (0.2, "ratio"),
        ("gpu0", "gpu.power"): (250.5, "W"),
        ("gpu0", "gpu.temperature"): (61, "C"),
        ("gpu1", "gpu.memory.used"): (3001, "bytes"),
        ("gpu1", "gpu.memory.free"): (4999, "bytes"),
        ("gpu1", "gpu.memory.total"): (8000, "bytes"),
        ("gpu1", "gpu.utilization"): (0, "ratio"),
        ("gpu1", "gpu.memory.utilization"): (0.2, "ratio"),
        ("gpu1", "gpu.temperature"): (61, "C"),
    }
    assert result["gpus"] == [
        {"index": 0, "name": "Fake GPU 0", "memory_bytes": 8000, "driver": "999.1"},
        {"index": 1, "name": "Fake GPU 1", "memory_bytes": 8000, "driver": "999.1"},
    ]


def test_memory_that_the_driver_keeps_is_told_apart(tmp_path: Path) -> None:
    result = with_fake(tmp_path, READ, "-DWITH_RESERVED")
    memory = {metric: value for _, device, metric, value, _ in result["values"] if device == "gpu0"}
    assert memory["gpu.memory.reserved"] == 500
    assert memory["gpu.memory.used"] == 2500
    assert memory["gpu.memory.used"] + memory["gpu.memory.reserved"] + memory["gpu.memory.free"] == 8000


def test_lost_gpus_come_back(tmp_path: Path) -> None:
    result = with_fake(tmp_path, LOSE)
    assert result["said"] == ["NVML: no GPU answers any more", "NVML: GPU is lost"]
    assert result["after"] == result["before"] > 0


def test_without_a_driver(tmp_path: Path) -> None:
    """An empty file in the library's place: no library, also on a machine that has a GPU."""
    (tmp_path / "libnvidia-ml.so.1").touch()
    result = in_process(tmp_path, NONE)
    assert result["missing"] == result["said"]
    assert result["said"].startswith("NVML: ")
    assert (result["devices"], result["gpus"]) == ([], [])


JUDGE = """
import json
from dataclasses import replace
from harness.judge import judge_stage
from harness.telemetry import Nvml
from harness.types import Gate
from tests.judge.measured import Stage
stage = Stage(gates=(Gate("memory.peak", 0.1), Gate("energy", 0.1), Gate("throughput_per_gpu", 0.1)))
nvml = Nvml()
stage.readings = [(second * 10**9, *value) for second in range(1, 61) for value in nvml.read()]
own = {"baseline": ("gpu0",), "candidate": ("gpu1",)}
found = judge_stage(replace(stage.evidence(), gpus=own), 0).findings
print(json.dumps({finding.metric: [finding.outcome, finding.candidate, finding.reason] for finding in found}))
"""


def test_the_judge_reads_what_nvml_says(tmp_path: Path) -> None:
    """gpu1 has neither an energy counter nor power: what it draws is not known."""
    found = with_fake(tmp_path, JUDGE)
    assert found["memory.peak"][:2] == ["pass", 3001]
    assert found["throughput_per_gpu"][0] == "pass"
    assert found["energy"][0] == "no data"
    assert found["energy"][2] == "gpu1 gave no readings (gpu.power) in this stage"
