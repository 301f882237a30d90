"""Two versions that do not fit into memory together: the one leaves before the other comes.

The journal has `models.swap` for each change, with what was served before. It is put back in the same order: first out,
then in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UnsafeChange, UsageError
from harness.run.journal import Journal
from harness.run.models.traffic import Arrivals
from harness.run.owed import SWAP
from harness.run.strays import POLL_S, WINDOW_S, counted
from harness.run.world import set_versions
from harness.triton import Control
from harness.types import Arm, ArmName


@dataclass(frozen=True)
class Swap:
    """Of two versions of one model on one server, which nobody else asks."""

    journal: Journal
    control: Control
    arms: dict[ArmName, Arm]
    repository: Path | None
    say: Callable[[str], None]

    def to(self, name: ArmName) -> None:
        """That arm alone is served. Does nothing where it is so already. To be called while nothing is in flight."""
        arm = self.arms[name]
        assert arm.version is not None
        other = self.arms["baseline" if name == "candidate" else "candidate"].version
        served = self.control.loaded(arm.model)
        if arm.version in served and other not in served:
            return
        self.say(f"{arm.model}: version {other} leaves, version {arm.version} comes")
        begun_s = time.monotonic()
        kept = [version for version in served if version not in (arm.version, other)]
        self._set(kept)
        self._set([*kept, arm.version])
        self.say(f"{arm.model} version {arm.version} is READY after {time.monotonic() - begun_s:.1f} s")

    def _set(self, wanted: list[int]) -> None:
        set_versions(self.journal, self.control, self.arms["baseline"].model, wanted, self.repository, action=SWAP)


def refuse_to_take_away(control: Control, arm: Arm, say: Callable[[str], None]) -> None:
    """Raises UnsafeChange if clients ask the version that swaps would take away, UsageError if it is not served. No
    request of ours is under way.
    """
    if arm.version is None or arm.version not in control.loaded(arm.model):
        raise UsageError(f"{arm.model} version {arm.version} is not served on {arm.url}")
    say(f"watching for {WINDOW_S:g} s whether clients ask {arm.model}")
    count = counted(control, arm.model, arm.version, lambda: 0, say)
    began_s = time.monotonic()
    while count is not None and time.monotonic() - began_s < WINDOW_S:
        time.sleep(POLL_S)
        if count.look():
            seen = Arrivals(control.url, arm.version, count.seen, time.monotonic() - began_s)
            raise UnsafeChange(
                f"{arm.model} version {arm.version} is not taken away: {seen.rate:.3g} requests/s reach it on "
                f"{control.url}; target.swap needs a server that nobody else uses"
            )
