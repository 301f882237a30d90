"""A version that loads and answers when the test lets it: a window that stays open however slow the machine is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from harness.embedded import EmbeddedServer
from harness.triton import Change, Control
from tests.waiting import until

# The signs lie in the repository's root, which Triton does not look at: a change of the version's folder would have
# it initialised anew.
HELD_MODEL = """import time
from pathlib import Path

from harness.embedded.tiny import TritonPythonModel as Tiny


class TritonPythonModel(Tiny):
    def initialize(self, args):
        super().initialize(args)
        self._signs = Path(args["model_repository"]).parent
        self._wait("load")

    def execute(self, requests):
        self._wait("answer")
        return super().execute(requests)

    def _wait(self, what):
        deadline = time.monotonic() + 60
        while (self._signs / f"{what}-is-held").exists() and time.monotonic() < deadline:
            (self._signs / f"{what}-waits").touch()
            time.sleep(0.01)
"""


@contextlib.contextmanager
def holding(repository: Path, what: Literal["load", "answer"]) -> Iterator[Callable[[], None]]:
    """HELD waits with it until the block ends, or until what it is given is called; a minute at most."""
    sign = repository / f"{what}-is-held"
    (repository / f"{what}-waits").unlink(missing_ok=True)
    sign.touch()
    try:
        yield lambda: sign.unlink(missing_ok=True)
    finally:
        sign.unlink(missing_ok=True)


def in_progress(
    server: EmbeddedServer, model: str, pool: ThreadPoolExecutor, call: Callable[[], Change]
) -> Future[Change]:
    """The call, sent, once a version is LOADING because of it. Asked over gRPC: a load over HTTP can block HTTP."""
    future = pool.submit(call)
    with Control(server.grpc_url) as watching:
        until(lambda: bool(watching.index().in_state(model, "LOADING")) or future.done(), "a version is LOADING")
    assert not future.done(), future.result()
    return future
