"""From a scenario to every request it will send: due time, arms and prompt, all fixed by the seed.

Pure and lazy: the same stage, seed and number of prompts give the same requests on any machine. Only raw
64-bit draws of PCG64 are used, seeded by (seed, stage, purpose): numpy guarantees those across its versions,
which it does not for its distributions, and another rate leaves arms and prompts as they were.

Who goes where:

    paired        both arms get every prompt; which one is sent first is balanced in random blocks of 4
    interleaved   random blocks of 4, two requests to each arm
    split         random blocks of 1/share requests (10 at least), each holding the share's part of them,
                  rounded so that the total at the end of a block is off by less than one. Independent draws
                  would leave a 10 % arm without a request in 12 % of all stages of 20; here an arm that
                  expects a request gets one

Prompts come in random order without repetition; when all were used, in another random order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.types import ArmName, Arrival, PlannedRequest, StagePlan

if TYPE_CHECKING:
    from harness.scenario.model import Scenario

# Payloads of a model that takes no prompts: PlannedRequest.prompt then numbers them.
PAYLOADS = 64

_CHUNK = 4096
_BLOCK = 4
_LONGEST_BLOCK = 1 << 16
_DUE, _ARMS, _PROMPTS = range(3)
_BOTH: tuple[ArmName, ...] = ("baseline", "candidate")
_BOTH_REVERSED: tuple[ArmName, ...] = ("candidate", "baseline")
_BASELINE: tuple[ArmName, ...] = ("baseline",)
_CANDIDATE: tuple[ArmName, ...] = ("candidate",)


@dataclass(frozen=True)
class Plan:
    """`prompts`: the texts that PlannedRequest.prompt numbers; () for a model that takes none."""

    stages: tuple[StagePlan, ...]
    seed: int
    prompts: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        """Seconds of load; starting servers and loading models (also in a deploy stage) come on top."""
        return sum(stage.duration_s for stage in self.stages if stage.purpose != "deploy")


def plan(scenario: Scenario) -> Plan:
    """The stages of a scenario; before them the deploy, and behind a last split at 100% the soak for which the
    baseline is kept.
    """
    stages = []
    deploy = scenario.deploy
    if deploy is not None:
        stages.append(
            StagePlan(
                index=0,
                mode="split",
                arrival="closed" if deploy.rate is None else scenario.load.arrival,
                duration_s=deploy.within_s,
                candidate_share=0.0,
                in_flight=deploy.in_flight,
                rate=deploy.rate,
                purpose="deploy",
            )
        )
    for index, stage in enumerate(scenario.stages, len(stages)):
        arrival: Arrival = "closed" if stage.rate is None else stage.arrival or scenario.load.arrival
        stages.append(
            StagePlan(
                index=index,
                mode=stage.mode,
                arrival=arrival,
                duration_s=stage.duration_s,
                candidate_share=stage.share,
                in_flight=stage.in_flight,
                rate=stage.rate,
            )
        )
    keep = scenario.on_promote.keep_baseline_s if scenario.on_promote else None
    last = stages[-1]
    if keep is not None and last.mode == "split" and last.candidate_share == 1:
        stages.append(
            StagePlan(
                index=len(stages),
                mode="split",
                arrival=last.arrival,
                duration_s=keep,
                candidate_share=1.0,
                in_flight=last.in_flight,
                rate=last.rate,
                purpose="soak",
            )
        )
    return Plan(tuple(stages), scenario.seed, scenario.load.texts)


def requests(stage: StagePlan, seed: int, prompts: int) -> Iterator[PlannedRequest]:
    """The requests of a stage in the order of their due times.

    Open loop: all that are due before the stage's duration is over. Closed loop: without end, due_ns -1.
    `prompts`: how many there are; 0 for a model that takes none (then PAYLOADS payloads are numbered).
    """
    due = _closed() if stage.rate is None else _open(stage, seed)
    chosen = _arms(stage, seed)
    order = _prompts(prompts or PAYLOADS, seed, stage.index)
    pair_id = stage.index << 32
    first, second = (_BOTH, _BOTH_REVERSED) if stage.mode == "paired" else (_BASELINE, _CANDIDATE)
    for due_ns, ends in due:
        picks = chosen(len(due_ns), ends)
        for due_at, pick, prompt in zip(due_ns, picks, order, strict=False):
            yield PlannedRequest(pair_id, due_at, prompt, second if pick else first)
            pair_id += 1


class _Draws:
    """Uniform numbers in [0, 1) from raw draws."""

    def __init__(self, seed: int, stage: int, purpose: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, stage, purpose]))

    def __call__(self, count: int) -> NDArray[np.float64]:
        raw = self._bits.random_raw(count)
        return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _closed() -> Iterator[tuple[list[int], bool]]:
    due_ns = [-1] * _CHUNK
    while True:
        yield due_ns, False


def _open(stage: StagePlan, seed: int) -> Iterator[tuple[list[int], bool]]:
    """Chunks of due times, and whether the chunk is the stage's last."""
    assert stage.rate is not None
    draws = _Draws(seed, stage.index, _DUE)
    # A short first chunk would not show the stage's end to the first block of arms.
    size = max(_CHUNK, _block_size(stage.candidate_share))
    start_s, number, ends = 0.0, 0, False
    while not ends:
        if stage.arrival == "constant":
            due_s = np.arange(number, number + size) / stage.rate
        else:
            due_s = start_s + np.cumsum(-np.log1p(-draws(size)) / stage.rate)
        start_s, number = float(due_s[-1]), number + size
        due_s = due_s[due_s < stage.duration_s]
        ends = len(due_s) < size
        due_ns = np.minimum(np.rint(due_s * 1e9), math.ceil(stage.duration_s * 1e9) - 1)
        yield due_ns.astype(np.int64).tolist(), ends


def _arms(stage: StagePlan, seed: int) -> Callable[[int, bool], list[bool]]:
    """A function from the number of further requests to the choice for each: True is the second."""
    draws = _Draws(seed, stage.index, _ARMS)
    share = stage.candidate_share
    if stage.mode == "split" and share in (0.0, 1.0):
        return lambda count, _: [share == 1.0] * count
    size = _block_size(share) if stage.mode == "split" else _BLOCK
    offset = float(draws(1)[0])
    waiting: list[bool] = []
    block = 0

    def choose(count: int, ends: bool) -> list[bool]:
        nonlocal block
        if ends and block == 0 and 0 < count < size and stage.mode == "split":
            return _only_block(stage, draws(count))
        while len(waiting) < count:
            blocks = max(1, -(-(count - len(waiting)) // size))
            edges = np.floor(np.arange(block, block + blocks + 1) * (size * share) + offset)
            ranks = draws(blocks * size).reshape(blocks, size).argsort(axis=1, kind="stable").argsort(axis=1)
            waiting.extend((ranks < np.diff(edges)[:, None]).ravel().tolist())
            block += blocks
        taken = waiting[:count]
        del waiting[:count]
        return taken

    return choose


def _only_block(stage: StagePlan, draws: NDArray[np.float64]) -> list[bool]:
    """The choices of a stage that ends within its first block: each arm that expects a request gets one."""
    count = len(draws)
    expected = (stage.rate or 0.0) * stage.duration_s
    candidates = round(count * stage.candidate_share)
    least = 1 - 1e-9
    if expected * stage.candidate_share >= least:
        candidates = max(candidates, 1)
    if expected * (1 - stage.candidate_share) >= least and count > 1:
        candidates = min(candidates, count - 1)
    ranks = draws.argsort(kind="stable").argsort()
    chosen: list[bool] = (ranks < candidates).tolist()
    return chosen


def _block_size(share: float) -> int:
    """Requests in which the rarer arm gets at least one."""
    rarer = min(share, 1 - share)
    return 1 if rarer <= 0 else min(max(10, math.ceil(1 / rarer - 1e-9)), _LONGEST_BLOCK)


def _prompts(count: int, seed: int, stage: int) -> Iterator[int]:
    draws = _Draws(seed, stage, _PROMPTS)
    while True:
        yield from draws(count).argsort(kind="stable").tolist()
