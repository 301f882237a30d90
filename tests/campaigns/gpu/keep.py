"""Keeps what came back from GPU machines: `python -m tests.campaigns.gpu.keep FOLDER`.

FOLDER holds, at any depth, what campaigns left in their OUT, of one session or of several. Each step's best entry (done
before anything else, then the latest) goes into reports/examples/gpu.json, which remembers earlier ones; the page
gpu.md is written from that file alone, and pages of runs into gpu-NAME/. Rehearsed results are refused. What was not
measured is said to be so.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.campaigns import examples
from tests.campaigns.gpu.steps import (
    STEPS,
    canary,
    coupling,
    facts,
    kernels,
    kl,
    long,
    memory,
    sampler,
    scenarios,
    speed,
    verdicts,
)
from tests.campaigns.gpu.steps.packing import PAGES, RESULTS, Entry, read_results, unpack
from tests.campaigns.gpu.steps.place import Found

DATA, PAGE = "gpu.json", "gpu.md"
PLACES = ("/tmp/", "/home/", "/root/", "/srv/", "/opt/")
"""Where things lie on a machine, which no page says."""
NO_RUN = "\0"
"""No folder of a run is called so: a step has taken its name out of its pages."""
WITH_PAGES = ("demo", "shifted", "slow", "erring", "multi", "long-fp16", "long-fp8", "long")

TITLES = {
    "facts": "The machine",
    "kernels": "The fused kernels",
    "speed": "FP8 against FP16, by batch size",
    "kl-cpu": "KL of FP8 against FP16, on a CPU",
    "kl": "KL of FP8 against FP16, on the GPU",
    "demo": "fp8-canary, the good candidate",
    "shifted": "fp8-canary, a loader that is off by a row",
    "slow": "fp8-canary, a candidate whose steps take 30 % longer",
    "erring": "fp8-canary, a candidate that fails 30 % of its requests",
    "memory": "NVML's memory against Triton's own",
    "sampler": "What reading the GPU costs the requests",
    "coupling": "Both arms on one GPU at once, against each alone",
    "verdicts": "The judge with both arms at once, and with one request at a time: SmolLM2",
    "verdicts-7b": "The same of a 7B model",
    "multi": "multi-model-server: an embedding model and a language model",
    "long-fp16": "long-context on a GPU that is nearly full: FP16 cache",
    "long-fp8": "long-context on a GPU that is nearly full: FP8 cache",
    "long": "long-context on the whole GPU",
}
"""In the order of the page."""


def main(argv: Sequence[str] | None = None) -> int:
    folders = [Path(name) for name in (sys.argv[1:] if argv is None else argv)]
    if not folders:
        raise SystemExit(__doc__)
    kept = keep(folders, examples.EXAMPLES)
    (examples.EXAMPLES / "README.md").write_text(examples.index())
    print(json.dumps({step: entry["state"] for step, entry in kept.items()}))
    return 0


def keep(folders: Sequence[Path], target: Path) -> dict[str, Entry]:
    """Into `target`. SystemExit where a folder holds no results, or rehearsed ones: then nothing is written."""
    found = [(path.parent, read_results(path.parent)) for folder in folders for path in sorted(folder.rglob(RESULTS))]
    if not found:
        raise SystemExit(f"{', '.join(map(str, folders))}: no {RESULTS} there")
    for folder, entries in found:
        if any(entry["rehearsed"] for entry in entries.values()):
            raise SystemExit(f"{folder}: rehearsed results are never published")
    data = target / DATA
    kept: dict[str, Entry] = json.loads(data.read_text()) if data.exists() else {}
    for folder, entries in found:
        better = {step: entry for step, entry in entries.items() if _rank(entry) > _rank(kept.get(step))}
        kept |= {step: _cleaned(entry) for step, entry in better.items()}
        _pages(folder, better, target)
    kept = {step: kept[step] for step in TITLES if step in kept}
    lines = ",\n".join(f"{json.dumps(step)}: {json.dumps(entry)}" for step, entry in kept.items())
    data.write_text(f"{{\n{lines}\n}}\n")
    (target / PAGE).write_text(page(kept))
    return kept


def _rank(entry: Entry | None) -> tuple[bool, str]:
    return (False, "") if entry is None else (entry["state"] == "done", entry["utc"])


def _cleaned(entry: Entry) -> Entry:
    """Without where things lay on the machine."""
    text = json.dumps({key: value for key, value in entry.items() if key != "roots"})
    cleaned: Entry = json.loads(examples.scrubbed(text, NO_RUN, *entry["roots"]))
    if cleaned["error"]:
        cleaned["error"] = cleaned["error"].splitlines()[-1]
    return cleaned


def _pages(folder: Path, entries: dict[str, Entry], target: Path) -> None:
    """Pages of the runs that have one each, in place of earlier ones."""
    wanted = [step for step in WITH_PAGES if step in entries and entries[step]["state"] == "done"]
    if not wanted or not (folder / PAGES).exists():
        return
    with tempfile.TemporaryDirectory() as name:
        unpack(folder / PAGES, Path(name))
        for step in wanted:
            source = Path(name) / "pages" / step
            if not source.is_dir():
                continue
            texts = {file.name: _without_places(file, entries[step]["roots"]) for file in sorted(source.iterdir())}
            kept = target / f"gpu-{step}"
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir()
            for file, text in texts.items():
                (kept / file).write_text(text)


def _without_places(file: Path, roots: Sequence[str]) -> str:
    """SystemExit where something of the machine would be told all the same."""
    text = examples.scrubbed(file.read_text(), NO_RUN, *roots)
    for place in PLACES:
        at = text.find(place)
        if at >= 0:
            said = text[max(at - 40, 0) : at + 80]
            raise SystemExit(f"{file.name} of {file.parent.name} would tell of its machine: {said!r}")
    return text


def page(kept: dict[str, Entry]) -> str:
    """gpu.md."""
    on_gpu = {step: entry for step, entry in kept.items() if entry["machine"]["gpus"] and entry["state"] == "done"}
    lines = ["# On a GPU", "", *_where(on_gpu), ""]
    for step, title in TITLES.items():
        if step in kept:
            lines += [f"## {title}", "", *_section(step, kept), ""]
    missing = [f"- `{step.name}`: {step.what}" for step in STEPS if step.name not in kept]
    if missing:
        lines += ["## Not measured yet", "", *missing]
    return "\n".join(lines).rstrip() + "\n"


def _where(on_gpu: dict[str, Entry]) -> list[str]:
    campaign = "`python -m tests.campaigns.gpu` ([how](../../docs/gpu.md))"
    if not on_gpu:
        return [
            f"What {campaign} measures, step by step. **Nothing has been measured on a GPU yet**: what is here is a "
            "CPU's, and says so.",
        ]
    machines: dict[str, list[str]] = {}
    for step, entry in on_gpu.items():
        machines.setdefault(_words(entry["machine"]), []).append(step)
    lines = [f"Measured by {campaign}."]
    for words, steps in machines.items():
        lines.append(f"- {words}: {', '.join(steps)}")
    return lines


def _words(machine: Found) -> str:
    gpus = ", ".join(
        f"{gpu.get('name', 'a GPU')} ({gpu.get('memory_bytes', 0) / 2**30:.0f} GiB, driver {gpu.get('driver', '?')}, "
        f"CUDA {gpu.get('cuda', '?')})"
        for gpu in machine["gpus"]
    )
    software = ", ".join(f"{name} {version}" for name, version in machine["software"].items())
    return f"{gpus or 'no GPU'}; {machine['cpu']}, {machine['threads']} threads; {software}"


def _section(step: str, kept: dict[str, Entry]) -> list[str]:
    entry = kept[step]
    if entry["state"] != "done":
        return [f"Not measured: the step was begun, and {_how(entry)}."]
    lines = _PARTS[step](entry["found"])
    if step == "kl-cpu":
        return [_how_made(entry), "", *lines]
    if step == "kl" and "kl-cpu" in kept:
        lines = [*lines, *kl.apart_from_kept(entry["found"], kept["kl-cpu"]["found"])]
    return lines


def _how(entry: Entry) -> str:
    return "was cut: it took too long" if entry["state"] == "cut" else f"failed: {entry['error']}"


def _how_made(entry: Entry) -> str:
    found = entry["found"]
    return (
        f"SmolLM2-135M, {found['questions']} of the demonstration's questions, {found['cpu']['tokens']} tokens that "
        "FP16 answered; every build is given them and says how likely it finds each, in PyTorch "
        f"({_words(entry['machine'])}). Weights and activations in e4m3, as on a GPU. "
        "`python -m tests.campaigns.gpu.steps.kl --on-cpu FOLDER`."
    )


def _with_page(lines: Callable[[Found, str], list[str]], step: str) -> Callable[[Found], list[str]]:
    return lambda found: lines(found, f"gpu-{step}")


_PARTS: dict[str, Callable[[Any], list[str]]] = {
    "facts": facts.lines,
    "kernels": kernels.lines,
    "speed": speed.lines,
    "kl-cpu": kl.cpu_lines,
    "kl": kl.lines,
    **{step: _with_page(canary.lines, step) for step in canary.BUILDS},
    "memory": memory.lines,
    "sampler": sampler.lines,
    "coupling": coupling.lines,
    "verdicts": verdicts.lines,
    "verdicts-7b": verdicts.lines,
    "multi": _with_page(scenarios.lines, "multi"),
    "long-fp16": _with_page(long.lines, "long-fp16"),
    "long-fp8": _with_page(long.lines, "long-fp8"),
    "long": _with_page(scenarios.lines, "long"),
}

if __name__ == "__main__":
    sys.exit(main())
