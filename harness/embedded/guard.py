"""For the models: a stub ends when the Triton that started it does, whatever killed that Triton."""

from __future__ import annotations

import os
import select
import threading


def end_with_parent() -> None:
    """Starts a thread that ends this process at once when its parent is gone.

    The Python backend's own check asks with kill(pid, 0), which succeeds on a zombie, and unwinds the
    interpreter, which can hang in a busy model. PR_SET_PDEATHSIG is no use here: it follows the *thread* that
    forked the stub.
    """
    parent = os.getppid()
    if parent == 1:
        os._exit(1)
    try:
        pidfd = os.pidfd_open(parent)
    except ProcessLookupError:
        os._exit(1)

    def watch() -> None:
        select.select([pidfd], [], [])
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
