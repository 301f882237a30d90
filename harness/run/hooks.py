"""Commands of the user that start, stop and scale servers: journaled like every other action.

A command is a program and its arguments, no shell. Running it twice must do no harm: after a crash it may be run again.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness.errors import WorldError
from harness.run.journal import Journal

HOOK = "hook.run"
LOG = "hooks.log"
TIMEOUT_S = 600.0
_LAST = 300


def run_hook(journal: Journal, what: str, command: Sequence[str], *, undo: Sequence[str] | None = None) -> None:
    """Run `command` and wait for its end. `what` says what it does, as "start green"; `undo`: the command that takes it
    back after a crash, None where nothing has to be.

    Its output goes to hooks.log beside the journal; it finds that folder in TRITON_CANARY_RUN. Raises WorldError where
    it cannot be run, fails, or takes longer than TIMEOUT_S.
    """
    before = None if undo is None else list(undo)
    with journal.action(HOOK, what, before=before, wanted=list(command)):
        call(what, command, journal.folder)


def call(what: str, command: Sequence[str], folder: Path) -> None:
    """The same without a journal."""
    log = folder / LOG
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env={**os.environ, "TRITON_CANARY_RUN": str(folder)},
                start_new_session=True,  # a Ctrl-C at the terminal is ours to handle
            )  # fmt: skip
            try:
                code = process.wait(TIMEOUT_S)
            except BaseException:
                # With all that it has started: nobody waits for it any more.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
    except subprocess.TimeoutExpired:
        raise WorldError(f"{what}: {command[0]} did not end within {TIMEOUT_S:g} s (log: {log})") from None
    except OSError as error:
        raise WorldError(f"{what}: {command[0]}: cannot be run: {error.strerror}") from error
    if code:
        lines = log.read_text(errors="replace")[-_LAST:].strip().splitlines()
        last = f": {lines[-1]}" if lines else ""
        raise WorldError(f"{what}: {command[0]} ended with exit code {code}{last} (log: {log})")
