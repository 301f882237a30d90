"""A canary on a real Triton over the fake NVML, one of whose GPUs is lost in mid-run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pyarrow.compute as pc
import pytest

from harness.recording import Recording, read_table
from tests.run.conftest import CANARY, only_folder
from tests.run.test_crash import wait_for_samples
from tests.telemetry.fake_nvml import FakeNvml

pytestmark = [pytest.mark.triton, pytest.mark.slow]

SCENARIO = """
name: gpu-lost
target: {server: embedded}
baseline: {model: tiny, version: 1, build: fp16}
candidate: {model: tiny, version: 2, build: same}
load: {timeout: 20s}
telemetry: {gpu_interval: 50ms}
gates:
  - {metric: errors, margin: 20pp}
  - {metric: memory.peak, max: 70GiB}
stages:
  - {mode: split, candidate: 50%, rate: 10/s, for: 8s}
on_fail: {route: baseline, unload: candidate}
"""


def test_the_run_goes_on_and_the_verdict_says_what_is_unknown(tmp_path: Path) -> None:
    """A limit on memory is kept only where the readings cover the stage: a lost GPU never promotes."""
    fake, out = FakeNvml.of(tmp_path, "a100", "h100"), tmp_path / "out"
    (tmp_path / "gpu-lost.yaml").write_text(SCENARIO)
    command = [str(CANARY), "run", str(tmp_path / "gpu-lost.yaml"), "--out", str(out), "--json"]
    with subprocess.Popen(
        command, env=fake.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for_samples(process, out, stage=0, rows=5)
        fake.set("a100", "h100\nlost 1")
        stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 3, stderr
    verdict = json.loads(stdout)
    assert verdict["verdict"] == "inconclusive"
    folder = only_folder(out)
    meta = json.loads((folder / "run.json").read_text())
    assert "NVML: gpu1 is lost: GPU is lost" in meta["telemetry"]["notes"]
    assert meta["telemetry"]["gpus"]["interval_s"] == 0.05
    assert meta["telemetry"]["gpus"]["polls"] > 0
    assert [gpu["name"] for gpu in meta["host"]["gpus"]] == ["NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3"]
    (memory,) = (one for one in verdict["findings"] if one["metric"] == "memory.peak")
    assert memory["outcome"] == "no data"
    assert "nobody read gpu1 for " in memory["reason"]
    assert "(it is read every 50" in memory["reason"]
    readings = read_table(folder, "readings")
    assert readings is not None
    assert [path.name for path in folder.glob("*.arrow")] == []
    last = {}
    for gpu in ("gpu0", "gpu1"):
        mine = pc.and_(pc.equal(readings["metric"], "gpu.memory.used"), pc.equal(readings["device"], gpu))
        last[gpu] = pc.max(readings.filter(mine)["t_ns"]).as_py()
    assert last["gpu0"] > last["gpu1"], "the other goes on"
    samples = Recording.open(folder).samples
    after = pc.and_(pc.greater(samples["sent_ns"], last["gpu1"]), pc.equal(samples["status"], "ok"))
    assert pc.sum(after).as_py() > 0, "and so does the run"
