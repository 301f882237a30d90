"""What a run was measured with, as far as it can change times and memory. Another fingerprint, another series.

In: the server's address, CPU, cores, memory, GPUs with their parts, GPU driver, CUDA, Triton, and of the generator
Python and triton-canary to their minor version. Out: what is known to differ from run to run and not to matter (kernel
patches, host names, ports, serial numbers, a few MiB of memory), and what is under test itself (model, version, build).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

PARTS = ("server at", "cpu", "cores", "memory", "gpus", "driver", "cuda", "triton", "python", "triton-canary")
"""In the order in which they are told. A part that run.json does not know is absent."""

_HERE = ("127.0.0.1", "::1", "localhost", "")

Fingerprint = Mapping[str, str]


def fingerprint(meta: Mapping[str, Any]) -> dict[str, str]:
    """Of run.json; {} of a recording that has none. Of a server elsewhere, CPU and GPUs are those of the generator."""
    host, software, server = (_mapping(meta, key) for key in ("host", "software", "server"))
    gpus = [gpu for gpu in host.get("gpus") or meta.get("gpus") or [] if isinstance(gpu, Mapping)]
    found = {
        "server at": _where(meta),
        "cpu": str(host.get("cpu") or ""),
        "cores": _cores(host),
        "memory": _installed(host.get("memory_bytes")),
        "gpus": _gpus(gpus),
        "driver": _each(gpus, "driver"),
        "cuda": _each(gpus, "cuda"),
        "triton": str(server.get("version") or ""),
        "python": _minor(software.get("python")),
        "triton-canary": _minor(software.get("triton-canary")),
    }
    return {part: found[part] for part in PARTS if found[part]}


def without(fingerprint: Fingerprint, ignored: Collection[str]) -> dict[str, str]:
    return {part: text for part, text in fingerprint.items() if part not in ignored}


def changed(before: Fingerprint, after: Fingerprint) -> str:
    """`driver 550.54 -> 555.42; gpus none -> 2 x NVIDIA H200 (140 GiB)`; "" where nothing is different."""
    parts = [part for part in (*PARTS, *sorted({*before, *after} - {*PARTS})) if before.get(part) != after.get(part)]
    return "; ".join(f"{part} {before.get(part) or 'unknown'} -> {after.get(part) or 'unknown'}" for part in parts)


def in_words(fingerprint: Fingerprint) -> str:
    return ", ".join(f"{part} {text}" for part, text in fingerprint.items()) or "unknown"


def _mapping(meta: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = meta.get(key)
    return found if isinstance(found, Mapping) else {}


def _where(meta: Mapping[str, Any]) -> str:
    scenario = _mapping(meta, "scenario")
    if _mapping(scenario, "target").get("server") == "embedded":
        return "embedded"
    arms, target = _mapping(meta, "arms"), _mapping(scenario, "target")
    urls = [str(_mapping(arms, arm).get("url") or "") for arm in ("baseline", "candidate")] + [target.get("url")]
    hosts = dict.fromkeys(urlsplit(str(url)).hostname or "" for url in urls if url)
    return ", ".join("this machine" if host in _HERE else host for host in hosts)


def _cores(host: Mapping[str, Any]) -> str:
    cores, threads = host.get("cores"), host.get("threads")
    if not cores and not threads:
        return ""
    return f"{cores or threads}" if threads in (None, cores) or not cores else f"{cores} ({threads} threads)"


def _installed(size: Any) -> str:
    """What a kernel keeps for itself differs from boot to boot: so up to an eighth of the power of two below. Machines
    have such sizes, and what they report is a few per cent less, far from where rounding would turn.
    """
    if not isinstance(size, int | float) or size <= 0:
        return ""
    step = 2.0 ** (math.floor(math.log2(size)) - 3)
    return f"{math.ceil(size / step) * step / 2**30:.4g} GiB"


def _gib(size: Any) -> str:
    return f"{round(size / 2**30)} GiB" if isinstance(size, int | float) and size > 0 else ""


def _gpus(gpus: list[Mapping[str, Any]]) -> str:
    told = Counter(_gpu(gpu) for gpu in gpus)
    return ", ".join(f"{count} x {text}" for text, count in sorted(told.items()))


def _gpu(gpu: Mapping[str, Any]) -> str:
    text = str(gpu.get("name") or "GPU")
    size = _gib(gpu.get("memory_bytes"))
    parts = [part for part in gpu.get("mig") or [] if isinstance(part, Mapping)]
    cut = Counter(_gib(part.get("memory_bytes")) or "part" for part in parts)
    mig = "MIG " + ", ".join(f"{count} of {size}" for size, count in sorted(cut.items())) if cut else ""
    inside = ", ".join(filter(None, (size, mig)))
    return f"{text} ({inside})" if inside else text


def _each(gpus: list[Mapping[str, Any]], key: str) -> str:
    return ", ".join(sorted({str(gpu[key]) for gpu in gpus if gpu.get(key)}))


def _minor(version: Any) -> str:
    """3.11 of 3.11.7: patches mend, and are not known to change times."""
    return ".".join(str(version or "").split(".")[:2])
