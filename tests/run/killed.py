"""The command, killed at a line of its journal: `python -m tests.run.killed N before|after -- run scenario.yaml`.

The process sends itself SIGKILL right before or right after it writes the N-th line, whichever journal that is of. It
ends as the command does where there are fewer lines.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from harness.cli import main
from harness.run.journal import Journal


def die_at(number: int, when: str) -> None:
    """From now on the N-th line that is written to a journal is the last thing that is seen of this process."""
    append, written = Journal._append, 0

    def counting(self: Journal, line: dict[str, Any]) -> None:
        nonlocal written
        written += 1
        if written == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        append(self, line)
        if written == number and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    Journal._append = counting  # type: ignore[method-assign]


if __name__ == "__main__":
    line, moment, dashes, *arguments = sys.argv[1:]
    assert moment in ("before", "after")
    assert dashes == "--"
    die_at(int(line), moment)
    sys.exit(main(arguments))
