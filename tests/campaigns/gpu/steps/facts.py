"""What the machine is, in its own words, and whether its NVML says which process holds what."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.campaigns.gpu.steps.place import Found, Place, machine, main

CANARY = Path(sys.executable).with_name("triton-canary")
HELD_MIB = 512
"""What this process takes of the GPU, to see whether it is told of it."""
SAID = (
    "Product Name", "Product Architecture", "Driver Version", "CUDA Version", "Persistence Mode", "Current",
    "Accounting Mode", "VBIOS Version", "Total", "Reserved", "Used", "Free", "Current Power Limit",
    "Max Power Limit", "SM", "Memory", "Compute Mode",
)  # fmt: skip
"""Keys of nvidia-smi -q that are kept: none that names this one card."""


def measure(place: Place) -> Found:
    found: Found = {"machine": machine(), "python": sys.version.split()[0], "torch": _torch(place)}
    place.save(found)
    found["doctor"] = _said([str(CANARY), "doctor"])
    smi = shutil.which("nvidia-smi")
    found["nvidia-smi"] = excerpt(_said([smi, "-q"])) if smi else []
    place.save(found)
    found["processes"] = _processes(place)
    return found


def _torch(place: Place) -> Found:
    import torch

    about: Found = {"version": torch.__version__, "cuda": torch.version.cuda}
    if not place.rehearsed:
        properties = torch.cuda.get_device_properties(0)
        about |= {
            "name": properties.name, "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count, "memory_bytes": properties.total_memory,
            "free_bytes": torch.cuda.mem_get_info()[0],
        }  # fmt: skip
    return about


def excerpt(text: str) -> list[str]:
    """Of nvidia-smi -q."""
    keys = {line: line.partition(":")[0].strip() for line in text.splitlines() if ":" in line}
    return [" ".join(line.split()) for line, key in keys.items() if key in SAID]


def _processes(place: Place) -> Found:
    """Takes HELD_MIB, and asks NVML itself and the harness's source who holds it."""
    import pynvml
    import torch

    from harness.telemetry import Nvml

    before = torch.zeros(HELD_MIB << 20, dtype=torch.uint8, device=place.device)
    if not place.rehearsed:
        torch.cuda.synchronize()
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        listed = [(each.pid, each.usedGpuMemory) for each in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)]
    finally:
        pynvml.nvmlShutdown()
    source = Nvml(slow_s=0.1)
    try:
        values = [value for value in source.read() if value.metric.startswith("gpu.memory")]
    finally:
        source.close()
    held = before.numel()
    return {
        "listed": len(listed), "with_amount": sum(amount is not None for _, amount in listed),
        "own_pid_listed": os.getpid() in [pid for pid, _ in listed], "held_bytes": held,
        "readings": [{"device": v.device, "metric": v.metric, "value": v.value} for v in values],
    }  # fmt: skip


def _said(command: list[Any]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr.strip()}"


def lines(found: Found) -> list[str]:
    gpus = found["machine"]["gpus"]
    torch = found["torch"]
    rows = [f"- GPU: {gpu['name']}, {gpu['memory_bytes'] / 2**30:.1f} GiB, driver {gpu['driver']}" for gpu in gpus]
    rows += [
        f"- PyTorch {torch['version']}, CUDA {torch['cuda']}; Python {found['python']}; "
        f"{found['machine']['cpu']}, {found['machine']['threads']} threads",
        f"- versions: {', '.join(f'{k} {v}' for k, v in found['machine']['software'].items())}",
    ]
    processes = found.get("processes")
    if processes:
        told = "with what each holds" if processes["with_amount"] else "without what each holds"
        own = "is" if processes["own_pid_listed"] else "is not"
        rows.append(
            f"- NVML lists {processes['listed']} processes, {told}; one that holds {HELD_MIB} MiB {own} among them by "
            "the number that it knows itself by"
        )
    return [*rows, "", "```", *found["doctor"].rstrip().splitlines(), "```"]


if __name__ == "__main__":
    main(measure)
