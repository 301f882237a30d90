"""A worker for a run on another host: joins, sends its share, ships what it recorded, and ends with the run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness.errors import WorldError
from harness.load import launch


def join(master: str, token: str, say: Callable[[str], None], folder: Path | None = None) -> None:
    """Returns when the run is over and everything that was recorded here has reached it; nothing is left behind then.

    `master`: HOST:PORT. `folder`: for the files until then, the system's temporary folder by default. Waits up to five
    minutes for the master. Ctrl-C ends this worker's part of the run, and ships what it recorded; another one does not
    wait for that. Raises UsageError (no address), WorldError (refused, lost, or files that did not arrive: where they
    are).
    """
    host, port = launch.split_address(master)
    parent = folder or Path(tempfile.gettempdir())
    try:
        with tempfile.NamedTemporaryFile(
            prefix="triton-canary-worker-", suffix=".log", dir=parent, delete=False
        ) as file:
            log = Path(file.name)
    except OSError as error:
        raise WorldError(f"{parent}: cannot be written: {error.strerror}") from error
    process = launch.launch(launch.as_worker(host, port), log)
    try:
        say(f"asking {host}:{port} for a share of its run")
        launch.tell(process, {"token": token, "local": False, "folder": str(parent)})
        try:
            failure = _until_over(process, say)
        except KeyboardInterrupt:
            say("ending; what was recorded is still shipped (Ctrl-C again: not)")
            assert process.stdin
            process.stdin.close()
            failure = _until_over(process, say)
        code = process.wait(launch.END_S)
    finally:
        launch.end(process)
    if failure is None:
        raise WorldError(f"{launch.how_ended(process)} before the run was over; see {log}")
    if code and not failure:
        raise WorldError(f"the worker ended with exit code {code}; see {log}")
    log.unlink()
    if failure:
        raise WorldError(failure)


def _until_over(process: launch.Process, say: Callable[[str], None]) -> str | None:
    """What went wrong, "" for nothing; None where the process never said."""
    assert process.stdout
    for line in process.stdout:
        event = json.loads(line)
        match event["event"]:
            case "joined":
                say("joined; this ends with the run")
            case "over":
                left = f" (files: {event['folder']})" if event["folder"] else ""
                return f"{event['failure']}{left}" if event["failure"] else ""
            case "error":
                return str(event["message"])
    return None
