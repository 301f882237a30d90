"""Campaign: does fp8-canary end as it should, over seeds and builds?

Runs the built-in scenario, unchanged but for `candidate.build` and the seed, once for each row that the table lacks,
and rewrites `reports/examples/seeds.csv` and `seeds.md` after every run: stop it when you like, start it again.
The recordings stay in `reports/seeds/`, for a second look.
Every run counts, whatever came out; a row is removed by hand or never. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from harness.recording import Recording

REPORTS = Path(__file__).resolve().parents[2] / "reports"
TABLE = REPORTS / "examples" / "seeds.csv"
RUNS = REPORTS / "seeds"
CANARY = Path(sys.executable).with_name("triton-canary")

EXPECTED = {
    # build: (verdict, the metric that has to be named, seeds)
    "fp8": ("promote", "", 10),
    "same": ("promote", "", 10),
    "fp8-shifted": ("rollback", "quality", 5),
    "slow": ("rollback", "tpot", 5),
    "erring": ("rollback", "errors", 5),
}
COLUMNS = (
    "build", "seed", "expected", "verdict", "as_expected", "named", "stage", "load_s", "wall_s", "pairs",
    "tpot_ratio", "kl",
)  # fmt: skip


def main() -> int:
    rows = _read()
    for seed in range(1, max(count for _, _, count in EXPECTED.values()) + 1):
        for build, (_, _, count) in EXPECTED.items():
            if seed <= count and (build, str(seed)) not in {(row["build"], row["seed"]) for row in rows}:
                row = _one(build, seed)
                rows.append(row)
                _write(rows)
                print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
    wrong = [row for row in rows if row["as_expected"] != "yes"]
    print(json.dumps({"runs": len(rows), "as_expected": len(rows) - len(wrong)}))
    return 1 if wrong else 0


def _one(build: str, seed: int) -> dict[str, str]:
    out = RUNS / f"{build}-{seed}"
    shutil.rmtree(out, ignore_errors=True)
    begin = time.monotonic()
    command = [CANARY, "run", "fp8-canary", "--json", "--seed", str(seed), "--set", f"candidate.build={build}"]
    done = subprocess.run([*command, "--out", out], capture_output=True, text=True, timeout=1800, check=False)
    wall_s = time.monotonic() - begin
    if not done.stdout:
        raise SystemExit(f"{build} seed {seed}: no verdict (exit {done.returncode}):\n{done.stderr[-2000:]}")
    return _row(build, seed, json.loads(done.stdout), Recording.open(next(out.iterdir())), wall_s)


def _row(build: str, seed: int, verdict: dict, recording: Recording, wall_s: float) -> dict[str, str]:
    expected, metric, _ = EXPECTED[build]
    failed = [finding["metric"] for finding in verdict["findings"] if finding["outcome"] == "fail"]
    named = any(name.startswith(metric) for name in failed) if metric else not failed
    ended = max(recording.samples["stage"].to_pylist())
    began_ns = recording.meta["stages"][0]["begin_ns"]
    last = recording.meta["stages"][-1]
    effects = {finding["metric"]: finding["effect"] for finding in reversed(verdict["findings"])}
    first = np.array(recording.samples["stage"]) == 0
    generated = np.array(recording.samples["assignment"]) != "score"
    return {
        "build": build,
        "seed": str(seed),
        "expected": expected,
        "verdict": verdict["verdict"],
        "as_expected": "yes" if verdict["verdict"] == expected and named else "no",
        "named": "+".join(dict.fromkeys(failed)),
        "stage": str(ended + 1),
        "load_s": f"{((last['decided_ns'] or last['end_ns']) - began_ns) / 1e9:.0f}",
        "wall_s": f"{wall_s:.0f}",
        "pairs": str(int((first & generated).sum()) // 2),
        "tpot_ratio": _number(effects.get("tpot.p50"), 3),
        "kl": _number(effects.get("quality.kl"), 4),
    }


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _read() -> list[dict[str, str]]:
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def _write(rows: list[dict[str, str]]) -> None:
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    temporary = TABLE.with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(TABLE)
    lines = [
        "# How fp8-canary ended, by build and seed",
        "",
        "`make seeds`; one row of `seeds.csv` a run.",
        "",
    ]
    lines += [
        "| build | should | did | of | load until decided, s (median, max) | tpot ratio | KL |",
        "|" + "---|" * 7,
    ]
    for build, (expected, metric, _) in EXPECTED.items():
        mine = [row for row in rows if row["build"] == build]
        if mine:
            load = [float(row["load_s"]) for row in mine]
            lines.append(
                f"| `{build}` | {expected}{' naming ' + metric if metric else ''} | "
                f"{sum(row['as_expected'] == 'yes' for row in mine)} | {len(mine)} | "
                f"{np.median(load):.0f}, {max(load):.0f} | {_span(mine, 'tpot_ratio')} | {_span(mine, 'kl')} |"
            )
    TABLE.with_suffix(".md").write_text("\n".join(lines) + "\n")


def _span(rows: list[dict[str, str]], column: str) -> str:
    values = [float(row[column]) for row in rows if row[column]]
    return f"{min(values):g} to {max(values):g}" if values else ""


if __name__ == "__main__":
    sys.exit(main())
