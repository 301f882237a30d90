"""The command, killed at a line of its journal: `python -m tests.run.killed LINE before|after -- run scenario.yaml`.

The process sends itself SIGKILL right before or right after it writes that line: the N-th, whichever journal that is
of, or the first with such an action and what it wants (`route.set=1.0`). It ends as the command does where there is no
such line.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from harness.cli import main
from harness.run.journal import Journal


def die_at(which: str, when: str) -> None:
    """From now on that line is the last thing that is seen of this process."""
    append, written = Journal._append, 0

    def counting(self: Journal, line: dict[str, Any]) -> None:
        nonlocal written
        written += 1
        here = which in (str(written), f"{line['action']}={line['wanted']}")
        if here and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        append(self, line)
        if here and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    Journal._append = counting  # type: ignore[method-assign]


if __name__ == "__main__":
    line, moment, dashes, *arguments = sys.argv[1:]
    assert moment in ("before", "after")
    assert dashes == "--"
    die_at(line, moment)
    sys.exit(main(arguments))
