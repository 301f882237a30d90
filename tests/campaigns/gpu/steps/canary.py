"""fp8-canary as it is built in, by `triton-canary run`, with a candidate of the step's name.

A GPU answers a pair in milliseconds, so stages are shorter, and those that shift traffic denser. What was set for that
is told with the result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.campaigns.gpu.steps.place import Found, Place, main

CANARY = Path(sys.executable).with_name("triton-canary")
BUILDS = {"demo": "fp8", "shifted": "fp8-shifted", "slow": "slow", "erring": "erring"}
WANTED = {"demo": "promote", "shifted": "rollback", "slow": "rollback", "erring": "rollback"}
SHORTER = (
    "stages.0.for=20s", "stages.1.rate=5/s", "stages.1.for=10s", "stages.2.rate=5/s", "stages.2.for=10s",
    "stages.3.rate=5/s", "stages.3.for=10s", "on_promote.keep_baseline=5s",
)  # fmt: skip
REHEARSED = (
    "stages.0.for=8s", "stages.1.for=2s", "stages.2.for=2s", "stages.3.for=2s", "on_promote.keep_baseline=1s",
)  # fmt: skip
BESIDE = ("gpu.utilization", "gpu.memory.used", "gpu.power", "gpu.clock.sm", "gpu.temperature")
FOR_INFORMATION = "for information"
ON_GPU = "the models run on the GPU"


def measure(place: Place) -> Found:
    build = BUILDS[place.name]
    sets = [f"candidate.build={build}"] if build != "fp8" else []
    found = run(place, "fp8-canary", [*sets, *(REHEARSED if place.rehearsed else SHORTER)])
    return {"build": build, "wanted": WANTED[place.name], **found}


def run(place: Place, scenario: str, sets: list[str], name: str = "", *, embedded: bool = True) -> Found:
    """One run, its pages kept as `name` (the step's): verdict, findings, stages, and what NVML read beside the load.

    SystemExit where there is no verdict, or the run's own models (`embedded`) were on the CPU, if it is no rehearsal.
    """
    name = name or place.name
    out = place.folder / f"run-{name}"
    command = [str(CANARY), "run", scenario, "--out", str(out)]
    command += [argument for each in sets for argument in ("--set", each)]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"})
    seconds = time.monotonic() - began
    print(done.stdout, done.stderr, file=sys.stderr)
    folders = sorted(out.iterdir()) if out.is_dir() else []
    if done.returncode not in (0, 1, 3) or not folders:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr[-1500:]}")
    if embedded and not place.rehearsed and ON_GPU not in done.stderr:
        raise SystemExit(f"{scenario}: the models did not run on the GPU: {done.stderr[:500]}")
    (folder,) = folders
    place.keep(folder, name)
    found = {
        "scenario": Path(scenario).stem, "set": sets, "exit_code": done.returncode, "seconds": round(seconds, 1),
        **_told(folder),
    }  # fmt: skip
    place.save(found)
    return found


def _told(folder: Path) -> Found:
    from harness.recording import Recording, is_operation
    from tests.campaigns.gpu.steps.serving import summary

    verdict = json.loads((folder / "verdict.json").read_text())
    meta = json.loads((folder / "run.json").read_text())
    keys = ("stage", "metric", "outcome", "baseline", "candidate", "effect", "interval", "margin", "unit", "reason")
    found: dict[str, Any] = {
        "verdict": verdict["verdict"], "reason": verdict["reason"],
        "findings": [{key: each[key] for key in keys} for each in verdict["findings"] if each["kind"] != "validity"],
        "gpus": [gpu["name"] for gpu in meta["host"]["gpus"]], "telemetry": meta.get("telemetry"),
    }  # fmt: skip
    if is_operation(folder):
        return found
    recording = Recording.open(folder)
    stages = recording.samples["stage"].to_pylist()
    found["stages"] = [
        {
            "mode": record["plan"]["mode"], "seconds": (record["end_ns"] - record["begin_ns"]) / 1e9,
            "requests": stages.count(record["plan"]["index"]),
        }
        for record in meta["stages"]
    ]  # fmt: skip
    found["beside"] = summary(_within(recording.readings, meta["stages"][0]), BESIDE)
    return found


def _within(readings: Any, stage: dict[str, Any]) -> Any:
    """Those of a stage."""
    import numpy as np

    if readings is None:
        return None
    t_ns = np.asarray(readings["t_ns"])
    return readings.filter((t_ns >= stage["begin_ns"]) & (t_ns <= stage["end_ns"]))


def lines(found: Found, name: str) -> list[str]:
    """`name`: of the folder of its page, beside this one."""
    right = "as it should" if found["verdict"] == found["wanted"] else f"NOT as it should ({found['wanted']})"
    text = [f"Candidate `{found['build']}`: **{found['verdict']}**, {right}. {found['reason']}", ""]
    text.append(f"{found['seconds']:.0f} s, server started and ended; set: {words(found['set'])}.")
    text += _stage(found)
    text += beside(found)
    return [*text, "", f"[page]({name}/report.html), [text]({name}/report.md)"]


def one_line(text: str) -> str:
    """Fit for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def words(sets: list[str]) -> str:
    return ", ".join(f"`{each}`" for each in sets) or "nothing"


def _stage(found: Found) -> list[str]:
    """What the gates came to in the first stage, which compares."""
    first = found["stages"][0]
    told = [each for each in found["findings"] if each["stage"] == 0]
    return [
        "", f"The {first['mode']} stage, {first['requests']} requests in {first['seconds']:.0f} s:", "",
        *(
            f"- {each['metric']}, {each['outcome']}: {' '.join(each['reason'].split())}"
            for each in told
            if not each["reason"].startswith(FOR_INFORMATION)
        ),
    ]  # fmt: skip


def beside(found: Found) -> list[str]:
    rows = found.get("beside") or {}
    if not rows:
        return ["", "Nothing was read of the GPU beside it."]
    text = ["", "NVML beside that load:", "", "| read | polls | least | median | most |", "|---|--:|--:|--:|--:|"]
    for metric, row in rows.items():
        values = " | ".join(amount(row[key], row["unit"]) for key in ("least", "median", "most"))
        text.append(f"| {metric} | {row['polls']} | {values} |")
    return text


def amount(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 2**30:.2f} GiB"
    if unit == "ratio":
        return f"{100 * value:.0f} %"
    return f"{value / 1e6:.0f} MHz" if unit == "Hz" else f"{value:.0f} {unit}"


if __name__ == "__main__":
    main(measure)
