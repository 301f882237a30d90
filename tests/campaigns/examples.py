"""Campaign: a real run of each of the twelve scenarios, and its pages for `reports/examples/`.

Runs the built-in scenarios unchanged, each whose recording is not in `reports/scenarios/` yet; judges and renders all
recordings anew: after a change of the pages this is quick. What is kept under `reports/examples/<name>/` are the pages,
the verdict and run.json, not the samples. Whatever a run came to counts; a recording is removed by hand or never.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPORTS = Path(__file__).resolve().parents[2] / "reports"
RUNS = REPORTS / "scenarios"
EXAMPLES = REPORTS / "examples"
CANARY = Path(sys.executable).with_name("triton-canary")
KEPT = ("report.html", "report.md", "junit.xml", "metrics.txt", "verdict.json", "run.json", "observations.json")

# The name of the example, and what is run.
SCENARIOS = {
    "deploy-without-restart": ("deploy-without-restart",),
    "rag-pipeline": ("rag-pipeline",),
    "fp8-canary": ("fp8-canary",),
    "fp8-canary-shifted": ("fp8-canary", "--set", "candidate.build=fp8-shifted"),
    "multi-model-server": ("multi-model-server",),
    "emergency-rollback": ("emergency-rollback",),
    "ab-test": ("ab-test",),
    "night-batch": ("night-batch",),
    "repo-sync": ("repo-sync",),
    "blue-green": ("blue-green",),
    "multi-region": ("multi-region",),
    "long-context": ("long-context",),
    "retire-model": ("retire-model",),
}


def main() -> int:
    for name, arguments in SCENARIOS.items():
        if _recorded(name) is None:
            print(f"{name}: {' '.join(('triton-canary', 'run', *arguments))}", flush=True)
            subprocess.run([CANARY, "run", *arguments, "--out", RUNS / name], stdout=subprocess.DEVNULL, check=False)
        _keep(name)
    (EXAMPLES / "README.md").write_text(index())
    print(json.dumps({name: _verdict(name)["verdict"] for name in SCENARIOS}))
    return 0


def _recorded(name: str) -> Path | None:
    """The run's folder, if there is one that was judged."""
    return next((found.parent for found in sorted((RUNS / name).glob("*/verdict.json"))), None)


def _keep(name: str) -> None:
    """Judged and rendered in a copy, which says nothing of where on this machine it lies."""
    folder = _recorded(name)
    if folder is None:
        raise SystemExit(f"{name}: the run left no verdict: see reports/scenarios/{name}")
    copy = RUNS / f".{name}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("models", "*.log", ".lock", "*.sock"))
    for file in copy.glob("*.json*"):
        file.write_text(scrubbed(file.read_text(), folder.name, REPORTS.parent))
    for command in ("judge", "report"):
        done = subprocess.run([CANARY, command, copy], capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1, 3):
            raise SystemExit(f"{name}: {done.stderr}")
    kept = EXAMPLES / name
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for file in KEPT:
        if (copy / file).exists():
            shutil.copyfile(copy / file, kept / file)
    shutil.rmtree(copy)


def scrubbed(text: str, run: str, *roots: Path | str) -> str:
    """Without where on its machine the folder of a run lay, wherever that was, nor folders within `roots`. May be a
    page.
    """
    text = re.sub(rf"/[^\s\"'?=&,;:<>]*{re.escape(run)}/?", "", text)
    for root in roots:
        text = text.replace(f"{root}/", "")
    return text


def _verdict(name: str) -> dict:
    return json.loads((EXAMPLES / name / "verdict.json").read_text())


def index() -> str:
    """README.md of the examples."""
    lines = [
        "# Real runs", "",
        "Each scenario as it is built in, on a CPU with two cores (`make examples`). The pages are one file each; open",
        "them in a browser.", "",
        "| scenario | verdict | because | page |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, arguments in SCENARIOS.items():
        found = _verdict(name)
        reason = " ".join(found["reason"].split()).replace("|", "\\|")
        lines.append(
            f"| `{' '.join(arguments)}` | {found['verdict']} | {reason} | [page]({name}/report.html), "
            f"[text]({name}/report.md) |"
        )
    lines += ["", "What was measured on a GPU, and what not yet: [gpu.md](gpu.md)."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
