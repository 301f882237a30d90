"""Where results and progress go."""

from __future__ import annotations

import os
import sys

from rich.console import Console


class _Console(Console):
    """A reader that has left (`| head`, a closed terminal) changes nothing about the run or its exit code."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


def stdout() -> Console:
    """For results. rich honours NO_COLOR, and writes no escape codes to what is no terminal."""
    return _Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def stderr() -> Console:
    """For progress."""
    return _Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
