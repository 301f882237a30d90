"""Limits on memory: in bytes or as a share of what there is, of a shared GPU, of a lost one, by high-water marks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.errors import UsageError
from harness.judge import Evidence, judge, judge_stage, normalise
from harness.types import Finding, Gate
from tests.judge.measured import Stage

GIB = 2**30
SHARE = Gate("memory.peak", limit=0.9, limit_kind="share")
BYTES = Gate("memory.peak", limit=40.0 * GIB)
MARGIN = Gate("memory.peak", 0.10)


class World:
    """A stage of 60 s, read once a second; what is read is in GiB, one value or one a second."""

    def __init__(self, gate: Gate) -> None:
        self.stage = Stage(gates=(gate,))

    def gpu(self, name: str, used: object, total: float | None = 80.0, source: str = "nvml") -> World:
        self.read(source, name, "gpu.memory.used", used)
        return self if total is None else self.read(source, name, "gpu.memory.total", total)

    def read(self, source: str, device: str, metric: str, gib: object) -> World:
        self.stage.read(source, device, metric, (np.asarray(gib, float) * GIB + np.zeros(60)).tolist(), "bytes")
        return self

    def processes(self, device: str, count: float = 1.0) -> World:
        self.stage.read("process", device, "processes", count)
        return self

    def finding(self, drop: tuple[str, int, int] | None = None, **other: object) -> Finding:
        """`drop`: nobody read that device between these seconds."""
        return of(self.evidence(drop, **other))

    def evidence(self, drop: tuple[str, int, int] | None = None, **other: object) -> Evidence:
        if drop is not None:
            device, first, last = drop
            self.stage.readings = [row for row in self.stage.readings if not _dropped(row, device, first, last)]
        return replace(self.stage.evidence(), **other)  # type: ignore[arg-type]


def _dropped(row: tuple[object, ...], device: str, first: int, last: int) -> bool:
    assert isinstance(row[0], int)
    return row[2] == device and first <= row[0] / 1e9 <= last


def of(evidence: Evidence) -> Finding:
    (one,) = (f for f in judge_stage(evidence, 0).findings if f.metric == "memory.peak")
    return one


# ---------------------------------------------------------------- a share of what there is


def test_a_share_is_of_the_gpu_that_is_fullest_and_each_counts_by_itself() -> None:
    one = World(SHARE).gpu("gpu0", 20.0).gpu("gpu1", 71.2).finding()
    assert one.reason == (
        "peak memory of gpu1 was 71.2 GiB, 89.0 % of its 80 GiB, limit 90 %; read every 1.00 s, what rose and fell in "
        "between is not seen"
    )
    assert (one.outcome, one.unit, one.margin, one.candidate) == ("pass", "rate", 0.9, pytest.approx(71.2 * GIB))
    assert one.effect == pytest.approx(0.89)
    # A small card that is nearly full is nearer to its edge than a large one that holds more.
    small = World(SHARE).gpu("gpu0", 71.0).gpu("gpu1", 23.0, total=24.0).finding()
    assert (small.outcome, small.reason.split(",")[0]) == ("fail", "peak memory of gpu1 was 23 GiB")
    own = World(SHARE).gpu("gpu0", 79.0).gpu("gpu1", 20.0)
    assert own.finding(gpus={"candidate": ("gpu1",)}).outcome == "pass", "gpu0 is not the candidate's"


def test_without_a_capacity_there_is_no_share() -> None:
    one = World(SHARE).gpu("gpu0", 20.0).gpu("gpu1", 20.0, total=None).finding()
    assert one.outcome == "no data"
    assert one.reason.endswith("; but it is not known how much memory there is for gpu1")
    alone = World(SHARE).gpu("gpu0", 20.0, total=None).finding()
    assert (alone.outcome, alone.reason) == ("no data", "it is not known how much memory there is for gpu0")
    parts = World(SHARE).gpu("GPU-aa", 20.0, total=None, source="triton")
    parts.read("triton", "GPU-aa", "gpu.memory.free", 60.0)
    assert parts.finding().outcome == "pass"
    assert "25.0 % of its 80 GiB" in parts.finding().reason


def test_an_instance_with_a_hard_limit_is_held_against_it() -> None:
    world = World(SHARE).read("process", "server", "memory.rss", 3.0).read("process", "m/2", "memory.rss", 0.5)
    world.read("process", "m/2", "memory.data", 1.9).read("process", "m/2", "memory.limit", 2.0)
    one = world.read("host", "host", "memory.total", 64.0).finding()
    assert one.outcome == "fail"
    assert one.reason.startswith(
        "peak memory of the processes of m/2 was 1.9 GiB, 95.0 % of its hard limit of 2 GiB, limit 90 %"
    )
    gpu = world.gpu("gpu0", 10.0).finding()
    assert gpu.outcome == "fail", "a GPU that has room does not excuse the instance that has none"


def test_without_either_the_server_is_held_against_the_host() -> None:
    world = World(SHARE).read("process", "server", "memory.rss", 60.0).read("process", "m/2", "memory.rss", 10.0)
    assert world.finding().reason == "it is not known how much memory there is for the server's processes"
    one = world.read("host", "host", "memory.total", 64.0).finding()
    assert one.outcome == "fail"
    assert "of the server's processes was 60 GiB, 93.8 % of the host's 64 GiB" in one.reason


def test_a_share_is_below_one_and_of_memory_only() -> None:
    for bad in (Gate("memory.peak", limit=1.0, limit_kind="share"), Gate("ttft.p50", limit=0.5, limit_kind="share")):
        with pytest.raises(UsageError, match="share"):
            normalise([bad])


@pytest.mark.parametrize("seed", range(20))
def test_bytes_and_per_cent_agree_and_a_gap_never_passes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    used = rng.uniform(0.7, 0.92, 60).cumsum() / np.arange(1, 61) * 80 + rng.uniform(-4, 4)
    share = float(np.round(rng.uniform(0.7, 0.95), 3))
    in_bytes, per_cent = Gate("memory.peak", limit=share * 80 * GIB), Gate(
        "memory.peak", limit=share, limit_kind="share"
    )  # fmt: skip
    one, two = (World(gate).gpu("gpu0", used).finding() for gate in (in_bytes, per_cent))
    assert one.outcome == two.outcome == ("fail" if used.max() > share * 80 else "pass")
    first = int(rng.integers(1, 50))
    for gate in (in_bytes, per_cent):
        gap = World(gate).gpu("gpu0", used).finding(drop=("gpu0", first, first + 8))
        seen = np.delete(used, np.arange(first - 1, first + 8))
        assert gap.outcome == ("fail" if seen.max() > share * 80 else "no data"), gap.reason


# ---------------------------------------------------------------- a GPU that is lost


@pytest.mark.parametrize("gate", [SHARE, BYTES])
def test_a_gpu_that_is_lost_in_mid_run_is_named_and_since_when(gate: Gate) -> None:
    one = World(gate).gpu("gpu0", 20.0).gpu("gpu1", 20.0).finding(drop=("gpu1", 31, 60))
    assert one.outcome == "no data"
    assert "; but nobody read gpu1 for " in one.reason
    assert one.reason.endswith("of the stage (it is read every 1.00 s): from 30.00 s on")
    verdict = judge(World(gate).gpu("gpu0", 20.0).gpu("gpu1", 20.0).evidence(drop=("gpu1", 31, 60)))
    assert verdict.verdict == "inconclusive"
    assert "gpu1" in verdict.reason
    broke = np.full(60, 20.0)
    broke[10] = 79.0
    assert World(gate).gpu("gpu0", 20.0).gpu("gpu1", broke).finding(drop=("gpu1", 31, 60)).outcome == "fail"


def test_one_that_was_lost_before_the_stage_is_not_forgotten() -> None:
    world = World(BYTES).gpu("gpu0", 20.0)
    world.stage.readings.append((-5 * 10**9, "nvml", "gpu1", "gpu.memory.used", 20.0 * GIB, "bytes"))
    one = world.finding()
    assert (one.outcome, one.reason) == ("no data", "gpu1 gave no readings (gpu.memory.used) in this stage")
    never = World(BYTES).gpu("gpu0", 20.0)
    never.stage.read("nvml", "gpu1", "gpu.lost", 1.0)
    assert never.finding().reason == "gpu1 gave no readings (gpu.memory.used) in this stage"
    gone = World(BYTES).read("process", "m/2", "memory.rss", 1.0).read("process", "server", "memory.rss", 2.0)
    gone.stage.readings.append((-5 * 10**9, "nvml", "gpu0", "gpu.memory.used", 20.0 * GIB, "bytes"))
    assert gone.finding().outcome == "no data", "the server's processes do not take the place of a GPU that is lost"


def test_a_reset_that_is_shorter_than_a_gap_is_not_covered_either() -> None:
    world = World(BYTES).gpu("gpu0", 20.0)
    world.stage.readings.append((round(20.5e9), "nvml", "gpu0", "gpu.lost", 1.0, "1"))
    one = world.finding()
    assert one.outcome == "no data"
    assert one.reason.endswith(
        "nobody read gpu0 for 1.00 s of the stage (it is read every 1.00 s): from 20.00 s to 21.00 s"
    )


def test_of_two_gpus_of_an_arm_the_one_that_is_lost_is_named() -> None:
    two = {"baseline": ("gpu0",), "candidate": ("gpu1", "gpu2")}
    for gate in (MARGIN, BYTES):
        world = World(gate).gpu("gpu0", 40.0).gpu("gpu1", 20.0).gpu("gpu2", 20.0)
        one = world.finding(drop=("gpu2", 40, 60), gpus=two)
        assert one.outcome == "no data"
        assert "nobody read gpu2 for" in one.reason


# ---------------------------------------------------------------- a GPU that both share


def shared(gate: Gate, v1: float = 20.0, v2: float = 21.0, others: float = 0.5) -> World:
    world = World(gate).gpu("gpu0", v1 + v2 + others + 10)
    world.read("nvml", "gpu0:m/1", "gpu.memory.process", v1).read("nvml", "gpu0:m/2", "gpu.memory.process", v2)
    return world.read("nvml", "gpu0:pid77", "gpu.memory.process", others)


def test_two_versions_on_one_gpu_are_told_apart_by_their_processes() -> None:
    one = shared(MARGIN).finding()
    assert one.outcome == "pass", one.reason
    assert "(21 GiB of the processes of m/2 on gpu0 against 20 GiB of the processes of m/1 on gpu0; read" in one.reason
    assert shared(MARGIN, v2=24.0).finding().outcome == "fail"
    world = shared(BYTES, v1=45.0, v2=30.0)
    assert world.finding().outcome == "pass", "in bytes the candidate's own counts"
    assert "of the processes of m/2 on gpu0 was 30 GiB, limit 40 GiB" in world.finding().reason
    assert shared(BYTES, v2=48.0).finding().outcome == "fail", "20 % more than its gate allows"
    edge = shared(SHARE, v1=45.0, v2=20.0).finding()
    assert (edge.outcome, edge.reason.split(" was ")[0]) == ("fail", "peak memory of gpu0"), "the edge is the GPU's"


def test_the_scenarios_word_comes_before_the_processes() -> None:
    own = {"baseline": ("gpu0",), "candidate": ("gpu1",)}
    one = shared(MARGIN).gpu("gpu1", 70.0).finding(gpus=own)
    assert "70 GiB of gpu1" in one.reason


def test_processes_that_are_nobodys_may_be_the_models_own_workers() -> None:
    one = shared(MARGIN, v1=1.0, v2=1.0, others=30.0).finding()
    assert one.outcome == "no data"
    assert "what both arms share cannot be told apart" in one.reason
    limit = shared(BYTES, v1=1.0, v2=1.0, others=38.0).finding()
    assert (limit.outcome, limit.reason.split(" was ")[0]) == ("fail", "peak memory of gpu0")


def test_an_arm_whose_processes_fell_silent_has_no_data() -> None:
    assert shared(BYTES).finding(drop=("gpu0:m/2", 30, 60)).outcome == "no data"
    gone = shared(MARGIN).finding(drop=("gpu0:m/2", 30, 60))
    assert (gone.outcome, "nobody read the processes of m/2 on gpu0 for" in gone.reason) == ("no data", True)


# ---------------------------------------------------------------- high-water marks


def test_the_drivers_mark_sees_what_polls_do_not() -> None:
    world = shared(BYTES, v2=30.0).processes("m/2").read("nvml", "gpu0:m/2", "gpu.memory.process.peak", 41.0)
    one = world.finding()
    assert one.outcome == "fail"
    assert one.reason == (
        "peak memory of the processes of m/2 on gpu0 was 41 GiB, limit 40 GiB; by the driver's high-water mark since "
        "it started, which misses nothing"
    )
    kept = shared(BYTES, v2=30.0).processes("m/2").read("nvml", "gpu0:m/2", "gpu.memory.process.peak", 39.0).finding()
    assert (kept.outcome, "was 39 GiB" in kept.reason) == ("pass", True)


def test_marks_of_several_processes_or_of_a_replaced_one_prove_nothing() -> None:
    several = shared(BYTES, v2=30.0).processes("m/2", 2.0).read("nvml", "gpu0:m/2", "gpu.memory.process.peak", 41.0)
    assert several.finding().outcome == "pass"
    assert "what rose and fell in between is not seen" in several.finding().reason
    unknown = shared(BYTES, v2=30.0).read("nvml", "gpu0:m/2", "gpu.memory.process.peak", 41.0)
    assert unknown.finding().outcome == "pass", "how many processes they are is not known"
    fell = np.r_[np.full(30, 41.0), np.full(30, 20.0)]
    replaced = shared(BYTES, v2=30.0).processes("m/2").read("nvml", "gpu0:m/2", "gpu.memory.process.peak", fell)
    assert "high-water" not in replaced.finding().reason


def test_a_mark_that_is_not_read_to_the_end_does_not_speak_for_it() -> None:
    world = shared(BYTES, v2=30.0).processes("m/2").read("nvml", "gpu0:m/2", "gpu.memory.process.peak", 35.0)
    metric = "gpu.memory.process.peak"
    world.stage.readings = [
        row for row in world.stage.readings if row[3] != metric or (isinstance(row[0], int) and row[0] < 40 * 10**9)
    ]
    assert "high-water" not in world.finding().reason


def test_the_kernels_mark_of_an_instance_with_a_hard_limit() -> None:
    world = World(Gate("memory.peak", limit=1.0 * GIB)).read("process", "server", "memory.rss", 3.0)
    world.read("process", "m/2", "memory.rss", 0.8).processes("m/2").read("process", "m/2", "memory.resident.peak", 1.2)
    one = world.finding()
    assert (one.outcome, "was 1.2 GiB, limit 1 GiB; by the kernel's high-water mark" in one.reason) == ("fail", True)


def test_against_the_baseline_a_mark_counts_where_it_rose() -> None:
    """A baseline that has served for longer may have a higher mark of a time in which the candidate did not serve."""
    world = shared(MARGIN, v1=20.0, v2=20.0).processes("m/1").processes("m/2")
    world.read("nvml", "gpu0:m/1", "gpu.memory.process.peak", 60.0)
    world.read("nvml", "gpu0:m/2", "gpu.memory.process.peak", np.r_[np.full(33, 20.0), np.full(27, 29.0)])
    one = world.finding()
    assert one.effect == pytest.approx(29 / 20)
    assert one.baseline == 20 * GIB


# ---------------------------------------------------------------- polls that were late


def test_a_machine_that_was_busy_for_a_moment_is_told_of_and_no_gap() -> None:
    """Ten polls a second, and once none for 1.5 s; 2.5 s are a gap."""
    for missing_s, outcome in ((1.5, "pass"), (2.5, "no data")):
        world = World(BYTES)
        at = np.arange(1, 600) * 1e8
        for t in at[(at < 20e9) | (at > (20 + missing_s) * 1e9)].tolist():
            world.stage.readings.append((round(t), "nvml", "gpu0", "gpu.memory.used", 20.0 * GIB, "bytes"))
        one = world.finding()
        assert one.outcome == outcome, one.reason
        assert f"read every 100.0 ms, once {missing_s + 0.2:.2f} s apart" in one.reason
