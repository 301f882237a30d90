"""Campaign: everything that only a GPU can tell, step by step, in as little of its time as may be.

Does the steps of `steps` in their order, each in a process of its own with a limit. A step that OUT/results.json has as
done is not done again; one that failed before is tried once the others are through. No step is begun when less than its
expected time is left. What is to come back lies in OUT after every step: see `packing`. Ends with one JSON line.

    python -m tests.campaigns.gpu --out OUT --budget-s 540
    python -m tests.campaigns.gpu --out OUT --rehearse           every line of it, on a CPU, with a fake NVML
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.campaigns.gpu.steps import LATE_S, Step, chosen, table
from tests.campaigns.gpu.steps.packing import Brought, Entry
from tests.campaigns.gpu.steps.place import FOUND, ROOT, machine

END_S = 10.0
"""For a step's processes to end once they are asked to: a Triton, a load."""
LAST_WORDS = 12
"""Lines of a step's log that stand in its result where it failed."""
SLOWER = 5.0
"""How much longer a step may take where it is rehearsed."""


def main(argv: Sequence[str] | None = None) -> int:
    options = _options().parse_args(argv)
    if options.table:
        print(table())
        return 0
    if options.out is None:
        raise SystemExit("--out DIR is missing")
    work = options.work or Path(tempfile.gettempdir()) / "triton-canary-gpu-campaign"
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="gpu-rehearsal-") as folder:
        if options.rehearse:
            environment = _without_gpu(Path(folder))
        steps = chosen(options.only)
        return campaign(
            steps, options.out, work, options.budget_s, rehearsed=options.rehearse, again=options.again,
            environment=environment,
        )  # fmt: skip


def campaign(
    steps: Sequence[Step], out: Path, work: Path, budget_s: float, *, rehearsed: bool, again: bool = False,
    environment: dict[str, str] | None = None,
) -> int:  # fmt: skip
    """0 where all that was begun is done, 1 otherwise. `again`: also what is done already."""
    began = time.monotonic()
    work = work.absolute()
    shutil.rmtree(work, ignore_errors=True)
    brought = Brought(out, work / "shelf", rehearsed=rehearsed)
    about = {"rehearsed": rehearsed, "machine": machine(), "roots": [str(work), str(ROOT)]}
    waiting = [step for step in steps if again or not brought.done(step.name)]
    waiting.sort(key=lambda step: step.name in brought.entries)  # equals stay in their order
    states: dict[str, str] = {step.name: "done before" for step in steps if step not in waiting}
    for step in waiting:
        left_s = budget_s - (time.monotonic() - began)
        if left_s < step.expected_s:
            states[step.name] = f"not begun: {left_s:.0f} s left, {step.expected_s:.0f} s expected"
        else:
            folder = work / step.name
            entry = {**about, **_run(step, folder, left_s, rehearsed, environment)}
            brought.add(step.name, entry, folder)
            states[step.name] = entry["state"]
        print(f"{time.monotonic() - began:6.1f} s  {step.name}: {states[step.name]}", file=sys.stderr, flush=True)
    print(json.dumps({"seconds": round(time.monotonic() - began, 1), "steps": states}), flush=True)
    return 1 if {"failed", "cut"} & set(states.values()) else 0


def _run(step: Step, folder: Path, left_s: float, rehearsed: bool, environment: dict[str, str] | None) -> Entry:
    folder.mkdir(parents=True)
    limit_s = min(step.limit_s * (SLOWER if rehearsed else 1.0), left_s + LATE_S)
    began, utc = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            step.command(folder, rehearsed=rehearsed), cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    kept = json.loads((folder / FOUND).read_text()) if (folder / FOUND).exists() else {"done": False, "found": {}}
    state = "cut" if code is None else "done" if code == 0 and kept["done"] else "failed"
    words = (folder / "log.txt").read_text(errors="replace").splitlines()[-LAST_WORDS:]
    how = f"cut after {limit_s:.0f} s" if code is None else f"exit code {code}"
    error = "" if state == "done" else "\n".join([how, *words])
    return {
        "step": step.name, "state": state, "utc": utc, "seconds": round(time.monotonic() - began, 1),
        "expected_s": step.expected_s, "error": error, "found": kept["found"],
    }  # fmt: skip


def _end(process: subprocess.Popen[bytes]) -> None:
    """The step's process and its group. Servers and loads have groups of their own, and end with their parent."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):  # in the driver's hands: nobody waits for it any longer
            process.wait(END_S)


def _without_gpu(folder: Path) -> dict[str, str]:
    """The environment of a rehearsal: a fake NVML with an H100, and no GPU for PyTorch, also where there is one."""
    from tests.telemetry.fake_nvml import FakeNvml

    fake = FakeNvml.of(folder, "h100\nprocess.1 2e9")
    return {**fake.environment, "CUDA_VISIBLE_DEVICES": ""}


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="what comes back; a campaign that is there goes on")
    parser.add_argument("--budget-s", type=float, default=540.0, help="seconds for all of this call (540)")
    parser.add_argument("--only", nargs="+", default=[], metavar="STEP", help="these, in this order")
    parser.add_argument("--again", action="store_true", help="also steps that are done")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU; nothing of it is ever published")
    parser.add_argument("--work", type=Path, metavar="DIR", help="for what does not come back; emptied first")
    parser.add_argument("--table", action="store_true", help="what each step is expected to take, and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
