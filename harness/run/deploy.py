"""The candidate is brought while the baseline serves: from the store into the repository, then loaded.

It happens in a thread, so that the main one goes on watching the traffic. Nothing else touches models or the journal
meanwhile; whoever leaves the `with` block has waited for the thread to end.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import LoadMismatch, WorldError
from harness.run.journal import Journal
from harness.run.models.traffic import Arrivals, Strays
from harness.run.strays import POLL_S, WINDOW_S, StrayCount, unsafe
from harness.run.world import set_versions
from harness.store import Progress, Store, sync
from harness.triton import Control, versions_on_disk
from harness.types import Arm, ModelInfo

SETTLE_S = 1.0
"""How long the stage goes on after the load: clients that are taken over show at once."""


class _Abandoned(WorldError):
    """Nobody waits for the candidate any more."""


@dataclass
class Deploy:
    """`store` None: the version is in the repository already. `repository` None: it is not seen from here.

    `unversioned` counts who asks the version that serves: the load is refused if anybody does. None: not asked.
    `fits` raises where it does not fit beside what serves: asked before the sync, and again once its files are here.
    `expects`: what the candidate has to take and answer, since the requests are made for it.
    """

    journal: Journal
    control: Control
    arm: Arm
    expects: ModelInfo
    repository: Path | None
    store: Store | None
    unversioned: StrayCount | None
    fits: Callable[[Control, Callable[[str], None]], None]
    say: Callable[[str], None]
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="deploy", daemon=True)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._abandoned = threading.Event()
        self._error: BaseException | None = None
        self._loaded_s: float | None = None

    def __enter__(self) -> Deploy:
        self._began_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """A load that was begun is waited for: nobody could say what serves before it has ended."""
        self._abandoned.set()
        self._thread.join()

    @property
    def done(self) -> bool:
        """The candidate is READY, and has been for a moment."""
        return self._loaded_s is not None and time.monotonic() - self._loaded_s >= SETTLE_S

    def over(self) -> bool:
        """Whether it is done; says what happened meanwhile. Raises what went wrong."""
        while not self._lines.empty():
            self.say(self._lines.get())
        if self._error is not None:
            raise self._error
        return self.done

    def _run(self) -> None:
        try:
            self.fits(self.control, lambda _: None)
            self._refuse_to_take_over(WINDOW_S)
            if self.store is not None and self.repository is not None:
                self._sync(self.store, self.repository)
                self._refuse_to_take_over()
            self._load()
            self._loaded_s = time.monotonic()
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._error = error

    def _refuse_to_take_over(self, window_s: float = 0.0) -> None:
        """Raises UnsafeChange if anybody but us asks the version that the candidate would take over from."""
        count = self.unversioned
        if count is None:
            return
        until_s = time.monotonic() + window_s
        while (left_s := until_s - time.monotonic()) > 0:
            self._go_on(min(POLL_S, left_s))
            count.look()
        if count.look():
            arrivals = Arrivals(self.control.url, count.version, count.seen, time.monotonic() - self._began_s)
            raise unsafe(self.arm, Strays(arrivals, self.arm.version or 0))

    def _sync(self, store: Store, repository: Path) -> None:
        model, version = self.arm.model, self.arm.version
        assert version is not None
        # A server of its own may have nothing yet.
        before = list(versions_on_disk(repository, model)) if (repository / model).is_dir() else []
        wanted = {"store": store.url, "versions": sorted({*before, version})}
        with self.journal.action("repository.sync", str(repository / model), before=before, wanted=wanted):
            result = sync(
                store, repository, models=[model], versions=[version], merge_config=_keep, progress=self._progress
            )
        if (model, version) in result.added:
            took = f"{result.bytes:,} bytes in {result.took_s:.1f} s, each file verified by its SHA-256"
            self._lines.put(f"synced {model}/{version} from {store.url}: {took}")
        else:
            self._lines.put(f"{model}/{version} is in the repository already, as its manifest says")

    def _load(self) -> None:
        model, version = self.arm.model, self.arm.version
        assert version is not None
        self._go_on()
        self.fits(self.control, self._lines.put)
        served = self.control.loaded(model)
        beside = f" beside {list(served)}" if served else f" on {self.control.url}"
        self._lines.put(f"loading {model} version {version}{beside}")
        set_versions(self.journal, self.control, model, [*served, version], self.repository)
        info = self.control.metadata(model, version)
        for what in ("inputs", "outputs", "max_batch_size", "decoupled"):
            if getattr(info, what) != getattr(self.expects, what):
                other = f"has other {what} than the baseline: {getattr(info, what)}"
                raise LoadMismatch(f"{model}: version {version} {other}")
        self._lines.put(f"{model} version {version} is READY")

    def _progress(self, _: Progress) -> None:
        self._go_on()

    def _go_on(self, wait_s: float = 0.0) -> None:
        """Waits; raises once the run has given up."""
        if self._abandoned.wait(wait_s):
            raise _Abandoned("the run has ended")


def _keep(local: bytes, _from_store: bytes) -> bytes:
    """One configuration serves all versions of a model: it is no part of what a canary tries."""
    return local
