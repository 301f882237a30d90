"""The real pynvml over a fake C library, in a process of its own: the loader must find it at the start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.judge import judge_stage
from harness.types import Gate
from tests.judge.measured import Stage
from tests.telemetry.fake_nvml import FakeNvml, without_driver

READ = """
import json
from harness.telemetry import Nvml, hardware
nvml = Nvml()
print(json.dumps({"missing": nvml.missing(), "values": list(nvml.read()), "gpus": hardware()["gpus"]}))
"""
GIB = 2**30
KINDS = "idle clocks_setting power_cap hw_slowdown sync_boost sw_thermal thermal_slowdown power_brake display_clocks"


def by_device(values: list[list]) -> dict[str, dict[str, tuple[float, str]]]:
    found: dict[str, dict[str, tuple[float, str]]] = {}
    for source, device, metric, value, unit in values:
        assert source == "nvml"
        assert metric not in found.setdefault(device, {}), f"{device} {metric} twice"
        found[device][metric] = (value, unit)
    return found


def throttled(by: str, lacking: tuple[str, ...] = ()) -> dict[str, tuple[float, str]]:
    return {f"gpu.throttle.{kind}": (float(kind == by), "1") for kind in KINDS.split() if kind not in lacking}


A100 = {
    "gpu.memory.used": (20 * GIB, "bytes"),
    "gpu.memory.free": (80 * GIB - 20 * GIB - 650117120, "bytes"),
    "gpu.memory.total": (80 * GIB, "bytes"),
    "gpu.memory.reserved": (650117120, "bytes"),
    "gpu.utilization": (0.75, "ratio"),
    "gpu.memory.utilization": (0.2, "ratio"),
    "gpu.power": (250.5, "W"),
    "gpu.power.limit": (400, "W"),
    "gpu.energy": (1234567, "J"),
    "gpu.temperature": (61, "C"),
    "gpu.temperature.memory": (72, "C"),
    "gpu.clock.sm": (1.41e9, "Hz"),
    "gpu.clock.memory": (1.593e9, "Hz"),
    "gpu.pcie.rx": (1.2e8, "bytes/s"),
    "gpu.pcie.tx": (4.5e7, "bytes/s"),
    "gpu.ecc.corrected": (3, "1"),
    "gpu.ecc.uncorrected": (0, "1"),
    **throttled("power_cap"),
}


def test_every_field_of_three_different_cards_at_once_and_none_that_one_lacks(tmp_path: Path) -> None:
    me = os.getpid()
    h100 = f"h100\nprocess.{me} 2e9\nprocess.77 -1\ngraphics.88 5e8\naccounting.{me} 3e9"
    result = FakeNvml.of(tmp_path, "a100", h100, "l40s").run(READ)
    assert result["missing"] is None
    values = by_device(result["values"])
    assert values["gpu0"] == A100
    one, other = values["gpu1"], values["gpu2"]
    assert set(one) == set(A100)
    assert one["gpu.memory.used"] == (40 * GIB, "bytes")
    assert (one["gpu.power"], one["gpu.utilization"]) == ((640.25, "W"), (0.98, "ratio"))
    assert {**one, **throttled("thermal_slowdown")} == one
    assert set(A100) - set(other) == {"gpu.temperature.memory", "gpu.throttle.sync_boost"}
    assert {**other, **throttled("idle", lacking=("sync_boost",))} == other
    assert other["gpu.utilization"] == (0, "ratio")
    processes = {device: metrics for device, metrics in values.items() if ":" in device}
    assert processes == {
        f"gpu1:pid{me}": {"gpu.memory.process": (2e9, "bytes"), "gpu.memory.process.peak": (3e9, "bytes")},
        "gpu1:pid88": {"gpu.memory.process": (5e8, "bytes")},
    }, "what the driver does not know of a process is absent"
    assert result["gpus"][0] == {
        "index": 0,
        "name": "NVIDIA A100-SXM4-80GB",
        "uuid": "GPU-a1000000-0000-4000-8000-000000000001",
        "memory_bytes": 80 * GIB,
        "driver": "570.86.15",
        "cuda": "12.8",
        "vbios": "92.00.81.00.01",
    }
    assert [gpu["name"] for gpu in result["gpus"]][1:] == ["NVIDIA H100 80GB HBM3", "NVIDIA L40S"]


OLD = (
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetSupportedClocksEventReasons",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMigMode",
)
OLDER = (
    *OLD,
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceGetPcieThroughput",
    "nvmlDeviceGetTotalEccErrors",
    "nvmlDeviceGetAccountingMode",
    "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetGraphicsRunningProcesses_v2",
    "nvmlEventSetCreate",
)


def test_a_driver_without_the_newer_symbols_is_asked_in_the_older_way(tmp_path: Path) -> None:
    result = FakeNvml.of(tmp_path, "a100\nprocess.88 5e8", hidden=OLD).run(READ)
    values = by_device(result["values"])
    reserved = A100["gpu.memory.reserved"][0]
    expected = {**A100, "gpu.memory.used": (20 * GIB + reserved, "bytes")}
    del expected["gpu.memory.reserved"]
    assert values == {"gpu0": expected, "gpu0:pid88": {"gpu.memory.process": (5e8, "bytes")}}


def test_missing_symbols_and_no_permission_are_absent_fields_and_nothing_else(tmp_path: Path) -> None:
    card = "a100\nprocess.88 5e8\npower !4\nclock.memory !3"
    values = by_device(FakeNvml.of(tmp_path, card, hidden=OLDER).run(READ)["values"])
    assert set(values) == {"gpu0"}
    left = {"used", "free", "total"}
    assert set(values["gpu0"]) == {
        *(f"gpu.memory.{amount}" for amount in left),
        *("gpu.utilization", "gpu.memory.utilization", "gpu.power.limit", "gpu.temperature", "gpu.clock.sm"),
    }


ASKED = """
import json
from harness.telemetry import Nvml
import pynvml
asked, found = [], pynvml._nvmlGetFunctionPointer
def counting(name):
    def call(*arguments):
        asked.append(name)
        return found(name)(*arguments)
    return call
pynvml._nvmlGetFunctionPointer = counting
now = [0.0]
nvml = Nvml(clock=lambda: now[0])
counts = []
for _ in range(20):
    nvml.read()
    now[0] += 0.1
print(json.dumps({name: asked.count(name) for name in set(asked)}))
"""


def test_what_a_card_lacks_is_asked_once_and_what_takes_long_once_a_second(tmp_path: Path) -> None:
    asked = FakeNvml.of(tmp_path, "a100\npower !3").run(ASKED)
    assert asked["nvmlDeviceGetPowerUsage"] == 1
    assert asked["nvmlDeviceGetUtilizationRates"] == 21, "the first time twice"
    assert asked["nvmlDeviceGetPcieThroughput"] == 4, "rx and tx, twice in two seconds"


LOSE = """
import json
from harness.telemetry import Nvml, SourceUnavailable, memory_of_all
from tests.telemetry.fake_nvml import FakeNvml
fake, now = FakeNvml.here(), [0.0]
nvml = Nvml(clock=lambda: now[0])
def read():
    values = list(nvml.read())
    try:
        total = memory_of_all(values)
    except SourceUnavailable as error:
        total = str(error)
    devices = {value.device: value.value for value in values if value.metric == "gpu.memory.used"}
    lost = [value.device for value in values if value.metric == "gpu.lost"]
    now[0] += 0.5
    return {"used": devices, "lost": lost, "total": total, "notes": nvml.notes}
steps = [read()]
fake.set("a100", "h100\\nlost 1", "l40s")
steps += [read(), read()]
fake.set("a100\\nmemory.used 1e9", "h100\\nmemory.used 2e9\\ntemperature !4", "l40s")
now[0] += 1
steps += [read()]
fake.set("a100\\nlost 1", "h100\\nlost 1", "l40s\\nlost 1")
steps += [read()]
fake.set("a100\\nmemory.used 3e9", "l40s\\nmemory.used 4e9", driver="generation 1")
now[0] += 1
steps += [read()]
fake.set("a100", "l40s", driver="generation 2")
steps += [read()]
fake.set("l40s", "h100", "a100", driver="generation 3")
now[0] += 1
steps += [read()]
fake.set(driver="generation 4\\ninit !9")
steps += [read()]
now[0] += 1
steps += [read()]
fake.set("a100", "h100", "l40s", driver="generation 5")
now[0] += 1
steps += [read()]
print(json.dumps(steps))
"""


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict]]:
    fake = FakeNvml.of(tmp_path_factory.mktemp("losses"), "a100", "h100", "l40s")
    return iter(fake.run(LOSE))


def test_lost_cards_come_back_under_their_names(losses: Iterator[list[dict]]) -> None:
    whole, lost, still, back, none, reset, again, turned, gone, away, home = losses
    a100, h100, l40s = whole["used"].values()
    assert (whole["lost"], whole["notes"], whole["total"]) == ([], [], a100 + h100 + l40s)
    for step in (lost, still):
        assert step["used"] == {"gpu0": a100, "gpu2": l40s}, "the others go on"
        assert (step["lost"], step["notes"]) == (["gpu1"], ["NVML: gpu1 is lost: GPU is lost"])
        assert step["total"] == "NVML: gpu1 does not answer any more", "and their sum is not that of all"
    assert back["used"] == {"gpu0": 1e9, "gpu1": 2e9, "gpu2": l40s}
    assert back["notes"][1:] == ["NVML: gpu1 answers again"]
    assert (none["used"], none["lost"]) == ({}, ["gpu0", "gpu1", "gpu2"])
    # A driver reset, after which the H100 is gone: NVML counts anew, and the names stay.
    assert reset["used"] == {"gpu0": 3e9, "gpu2": 4e9}
    assert reset["lost"] == ["gpu1"]
    assert "NVML: gpu0 answers again since NVML was opened anew" in reset["notes"]
    # The next follows at once: NVML was opened anew half a second ago.
    assert again["lost"] == ["gpu0", "gpu1", "gpu2"]
    assert turned["used"] == {"gpu0": a100, "gpu1": h100, "gpu2": l40s}
    # The driver is unloaded, and comes back.
    for step in (gone, away):
        assert (step["used"], step["lost"]) == ({}, ["gpu0", "gpu1", "gpu2"])
    assert home["used"] == whole["used"]
    assert len(set(home["notes"])) == len(home["notes"]), "each is told once"


MIG = """
import json
from harness.telemetry import Nvml, memory_of_all
from tests.telemetry.fake_nvml import FakeNvml
fake, now = FakeNvml.here(), [0.0]
nvml = Nvml(clock=lambda: now[0])
first, gpus = list(nvml.read()), nvml.devices()
second = "mig2.gi 3\\nmig2.ci 1\\nmig2.memory.total 2e10\\nmig2.memory.used 6e9"
fake.set(f"a100-mig\\nmig0.gi !6\\nmig1.memory.used 6e9\\n{second}")
now[0] += 1
nvml.read()
second = list(nvml.read())
print(json.dumps([first, gpus, second, memory_of_all(second), nvml.notes]))
"""


def test_mig_instances_are_devices_of_their_own_beside_their_card(tmp_path: Path) -> None:
    card = "a100-mig\nprocess.11 1e9\nmig0.process.21 2e9\nmig0.process.22 3e9\nmig1.process.23 4e9"
    first, gpus, second, total, notes = FakeNvml.of(tmp_path, card).run(MIG)
    values = by_device(first)
    assert set(A100) - set(values["gpu0"]) == {"gpu.utilization", "gpu.memory.utilization"}
    amounts = {f"gpu.memory.{amount}" for amount in ("used", "free", "total", "reserved")}
    assert set(values["gpu0/mig2"]) == set(values["gpu0/mig3"]) == amounts
    assert values["gpu0/mig2"]["gpu.memory.used"] == (10 * GIB, "bytes")
    assert values["gpu0/mig3"]["gpu.memory.total"] == (21139292160, "bytes")
    processes = {device: value["gpu.memory.process"][0] for device, value in values.items() if ":" in device}
    assert processes == {"gpu0/mig2:pid21": 2e9, "gpu0/mig2:pid22": 3e9, "gpu0/mig3:pid23": 4e9}
    one, other = gpus[0]["mig"]
    assert one == {
        "device": "gpu0/mig2",
        "uuid": "MIG-20000000-0000-4000-8000-000000000002",
        "memory_bytes": 42285268992,
        "multiprocessors": 42,
        "slices": 3,
    }
    assert other["device"] == "gpu0/mig3"
    # One instance is taken away, in another a second compute instance is made.
    assert {value[1] for value in second} == {"gpu0", "gpu0/mig3.0", "gpu0/mig3.1"}
    assert total == 15 * GIB, "of the card, in which its instances are"
    assert notes == []


EVENTS = """
import json
from harness.telemetry import Nvml
from tests.telemetry.fake_nvml import FakeNvml
fake, now = FakeNvml.here(), [0.0]
nvml = Nvml(clock=lambda: now[0])
def read():
    now[0] += 0.1
    return [v[1:4] for v in nvml.read() if v.metric == "gpu.xid" or v.metric.startswith("gpu.ecc")]
read()
steps = [read()]
fake.set("a100\\nxid 48 63@0.001", "h100\\necc.event 2\\necc.uncorrected 1")
steps += [read(), read()]
fake.set("a100\\nlost 1", "h100")
read()
fake.set("a100\\nlost 1", "h100\\nxid 31")
steps += [read() + read()]
print(json.dumps(steps))
"""


def test_xid_and_ecc_errors_as_they_happen(tmp_path: Path) -> None:
    quiet, happened, after, others = FakeNvml.of(tmp_path, "a100", "h100").run(EVENTS)
    assert quiet == after == []
    assert [event for event in happened if event[1] == "gpu.xid"] == [["gpu0", "gpu.xid", 48], ["gpu0", "gpu.xid", 63]]
    assert ["gpu1", "gpu.ecc.uncorrected", 1] in happened, "the counters are read at once"
    assert others == [["gpu1", "gpu.xid", 31]], "a lost card does not silence the others"


STUB = "import sys; print('ready', flush=True); sys.stdin.read()"
PROCESSES = """
import json, sys
from harness.telemetry import Nvml
from tests.telemetry.fake_nvml import FakeNvml
fake, now, (one, two) = FakeNvml.here(), [0.0], sys.argv[1:]
nvml = Nvml(clock=lambda: now[0])
def read():
    now[0] += 1
    return [v[1:4] for v in nvml.read() if ":" in v.device]
steps = [read()]
fake.set(f"h100\\nprocess.{one} 1e9\\ngraphics.{one} 1e9\\naccounting.{one} 4e9\\naccounting.{two} 6e9")
steps += [read(), read()]
print(json.dumps(steps))
"""


def test_processes_of_a_python_backend_model_count_together_and_keep_their_high_water_mark(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STUB, "/models/tiny/2/model.py"]
    stubs = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for stub in stubs:
            assert stub.stdout is not None
            assert stub.stdout.readline() == b"ready\n"
        pids = [stub.pid for stub in stubs]
        lines = [f"process.{pid} 2e9\naccounting.{pid} 3e9" for pid in pids]
        both, left, later = FakeNvml.of(tmp_path, "\n".join(["h100", *lines])).run(PROCESSES, *pids)
    finally:
        for stub in stubs:
            stub.communicate()
    used, peak = "gpu.memory.process", "gpu.memory.process.peak"
    assert sorted(both) == [["gpu0:tiny/2", used, 4e9], ["gpu0:tiny/2", peak, 6e9]]
    # One has ended between two polls: its mark is told once more. Computing and drawing, the other counts once.
    assert sorted(left) == [["gpu0:tiny/2", used, 1e9], ["gpu0:tiny/2", peak, 1e10]]
    assert sorted(later) == [["gpu0:tiny/2", used, 1e9], ["gpu0:tiny/2", peak, 4e9]]


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


def test_without_a_driver_and_without_permission(tmp_path: Path) -> None:
    nothing = {"devices": [], "gpus": []}
    result = without_driver(tmp_path).run(NONE)
    assert result.pop("missing") == result["said"]
    assert result.pop("said").startswith("NVML: ")
    assert result == nothing
    why = "NVML: this machine has no GPU"  # that this process may see
    assert FakeNvml.of(tmp_path, "a100\nhandle !4").run(NONE) == {"missing": why, "said": why, **nothing}


APART = """
import json, threading, time
import pynvml
from harness.telemetry import Nvml
from tests.telemetry.fake_nvml import FakeNvml
asked, answered, real = threading.Event(), threading.Event(), pynvml.nvmlDeviceGetPcieThroughput
def ask(*arguments):
    asked.set()
    speed = real(*arguments)
    answered.set()
    return speed
pynvml.nvmlDeviceGetPcieThroughput = ask
nvml, deadline = Nvml(0.2, apart=True), time.monotonic() + 60
def poll():
    time.sleep(0.01)
    assert time.monotonic() < deadline
    return {value.metric for value in nvml.read()}
while not asked.is_set():
    poll()
during, answered_during = [sorted(poll()) for _ in range(20)], answered.is_set()
FakeNvml.here().set("a100")
after = set()
while not {"gpu.pcie.rx", "gpu.pcie.tx"} <= after:
    after |= poll()
nvml.close()
print(json.dumps([during, answered_during]))
"""


def test_a_slow_answer_does_not_hold_up_the_fast_ones(tmp_path: Path) -> None:
    """PCIe throughput takes the driver ten minutes here, or until twenty polls were made meanwhile."""
    during, answered = FakeNvml.of(tmp_path, "a100\npcie.takes 600").run(APART)
    assert not answered
    assert all("gpu.memory.used" in poll for poll in during)


STUMBLES = """
import json, time
from harness.telemetry.nvml import Nvml, slow
mistakes = ["a mistake"]
def read(self, card, ask, real=slow.Processes.read):
    if mistakes:
        raise ValueError(mistakes.pop())
    return real(self, card, ask)
slow.Processes.read = read
nvml, seen, deadline = Nvml(0.05, apart=True), set(), time.monotonic() + 30
while "gpu.memory.process" not in seen and time.monotonic() < deadline:
    seen |= {value.metric for value in nvml.read()}
    time.sleep(0.01)
nvml.close()
print(json.dumps([sorted(seen), nvml.notes]))
"""


def test_a_mistake_in_a_slow_answer_is_told_and_ends_nothing(tmp_path: Path) -> None:
    seen, notes = FakeNvml.of(tmp_path, "a100\nprocess.88 5e8").run(STUMBLES)
    assert notes == ["NVML: ValueError: a mistake"]
    assert {"gpu.memory.process", "gpu.pcie.rx", "gpu.memory.used"} <= set(seen)


FAILS_ONCE = """
import json
from harness.telemetry import Nvml
from tests.telemetry.fake_nvml import FakeNvml
fake, now = FakeNvml.here(), [0.0]
nvml = Nvml(clock=lambda: now[0])
def read():
    now[0] += 0.1
    return sorted(value.metric for value in nvml.read() if "throttle" not in value.metric)
steps = [read()]
for power, memory in (("!999", ""), ("1000", "memory.used !3"), ("1000", ""), ("!999", "")):
    fake.set(f"a100\\npower {power}\\n{memory}")
    now[0] += 1
    read()
    steps.append(read())
nvml.close()
fresh = Nvml(clock=lambda: now[0])
steps += [sorted(value.metric for value in fresh.read() if "throttle" not in value.metric)]
fake.set("a100")
steps += [sorted(value.metric for value in fresh.read() if "throttle" not in value.metric)]
print(json.dumps([steps, nvml.notes, fresh.notes]))
"""


def test_what_is_not_answered_for_once_is_absent_for_once(tmp_path: Path) -> None:
    steps, *notes = FakeNvml.of(tmp_path, "a100").run(FAILS_ONCE)
    gauges = {metric for metric in steps[0] if metric in steps[1] or metric == "gpu.power"}
    amounts = {f"gpu.memory.{what}" for what in ("used", "free", "total", "reserved")}
    fast = [set(step) & gauges for step in steps]
    assert fast[0] - fast[1] == {"gpu.power"}
    assert fast[0] - fast[2] == amounts, "as on a card that lacks them"
    assert fast[0] - fast[4] == {"gpu.power"} | (fast[0] - fast[3])
    assert set(steps[0]) - set(steps[5]) == {"gpu.power"}, "nor when it is first asked"
    assert "gpu.power" in steps[6]
    assert notes == [[], []]


def test_the_judge_reads_what_nvml_says(tmp_path: Path) -> None:
    """gpu1 has neither an energy counter nor power: what it draws is not known."""
    values = FakeNvml.of(tmp_path, "a100", "a100\nmemory.used 21e9\npower !3\nenergy !3").run(READ)["values"]
    stage = Stage(gates=(Gate("memory.peak", 0.1), Gate("energy", 0.1), Gate("throughput_per_gpu", 0.1)))
    stage.readings = [(second * 10**9, *value) for second in range(1, 61) for value in values]
    own = {"baseline": ("gpu0",), "candidate": ("gpu1",)}
    found = {each.metric: each for each in judge_stage(replace(stage.evidence(), gpus=own), 0).findings}
    assert (found["memory.peak"].outcome, found["memory.peak"].candidate) == ("pass", 21e9)
    assert found["throughput_per_gpu"].outcome == "pass"
    assert (found["energy"].outcome, found["energy"].reason) == (
        "no data", "gpu1 gave no readings (gpu.power) in this stage",
    )  # fmt: skip
