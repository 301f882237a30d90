"""Campaign: does traffic move without a failed request, and how fast does it come back?

On a real HAProxy and a real Envoy: twenty changes of the split under 200 requests a second, over HTTP and gRPC; twenty
rollbacks of a candidate that fails half of its requests; a blue-green switch and the one command back under 200
requests a second. Each measurement is a row of `reports/examples/comes-back.csv`; those that the file has are not made
again. Every row counts, whatever came out. Rewrites `comes-back.md` after each.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

from harness.ingress import open_ingress
from tests.ingress.traffic import Traffic
from tests.run.conftest import CANARY
from tests.run.front import Kind, Place, one_triton, two_tritons
from tests.run.test_blue_green import write as blue_green
from tests.run.test_emergency import SCENARIO as EMERGENCY

REPORTS = Path(__file__).resolve().parents[2] / "reports" / "examples"
TABLE, PAGE = REPORTS / "comes-back.csv", REPORTS / "comes-back.md"
RATE, CHANGES, ROLLBACKS = 200.0, 20, 20
KINDS: tuple[Kind, ...] = ("haproxy", "envoy")
COLUMNS = ("what", "ingress", "wire", "number", "requests", "failed", "off", "ms", "seconds")
Row = dict[str, str]


def main() -> int:
    rows = _read()
    for row in _measurements({_key(row) for row in rows}):
        rows.append(row)
        _write(rows)
        print(" ".join(f"{key}={value}" for key, value in row.items() if value), flush=True)
    return 1 if any(row["failed"] != "0" for row in rows) else 0


def _measurements(known: set[tuple[str, ...]]) -> Iterator[Row]:
    for kind in KINDS:
        for wire in ("http", "grpc"):
            if ("changes", kind, wire, "1") not in known:
                yield _changes(kind, wire)
            if ("blue-green", kind, wire, "1") not in known:
                yield _switch(kind, wire)
        missing = [n for n in range(1, ROLLBACKS + 1) if ("rollback", kind, "http", str(n)) not in known]
        if missing:
            with _folder() as folder, one_triton(folder, kind, {"fail": 0.5}) as place:
                for number in missing:
                    yield _rollback(kind, number, place, folder)


def _changes(kind: Kind, wire: str) -> Row:
    """`off`: the largest distance of an arm's count from its share, in requests; `ms`: median and longest change."""
    draw = random.Random(1)
    took, off, failed, asked = [], 0.0, 0, 0
    with _folder() as folder, two_tritons(folder, kind) as place:
        router = open_ingress(place.router.control)
        entry = place.router.http_url if wire == "http" else place.router.grpc_url
        with Traffic(entry, rate=RATE) as users:
            users.wait_for(int(RATE))
            for _ in range(CHANGES):
                share = draw.choice((0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0))
                begin = time.monotonic()
                router.set(share)
                took.append(1e3 * (time.monotonic() - begin))
                answers = users.answers(users.wait_for(int(2 * RATE)))
                off = max(off, abs(sum(answer.version == "2" for answer in answers) - share * len(answers)))
        failed, asked = len(users.failed()), len(users.answers())
    ms = f"{statistics.median(took):.1f} / {max(took):.1f}"
    return _row("changes", kind, wire, 1, requests=asked, failed=failed, off=f"{off:.1f}", ms=ms)


def _rollback(kind: Kind, number: int, place: Place, folder: Path) -> Row:
    """`seconds`: from the candidate's first bad answer to 100 % at the baseline; `failed`: of the baseline's."""
    file, out = folder / "emergency.yaml", folder / f"run-{number}"
    file.write_text(
        EMERGENCY.format(
            url=place.blue.grpc_url, repository=place.blue.repository, ingress=place.router.http_url,
            control=place.router.control,
        )
    )  # fmt: skip
    done = Popen([CANARY, "run", file, "--out", out, "--json", "--seed", str(number)], stdout=PIPE, stderr=PIPE)
    said, _ = done.communicate()
    found = {one["metric"]: one for one in json.loads(said)["findings"]}["traffic.rollback"]
    lost = found["reason"].partition("from then on ")[2].split()[0]
    shutil.rmtree(out)
    return _row(
        "rollback", kind, "http", number, requests=found["n_baseline"], failed=0 if lost == "none" else lost,
        seconds=f"{found['effect']:.2f}",
    )  # fmt: skip


def _switch(kind: Kind, wire: str) -> Row:
    with _folder() as folder, two_tritons(folder, kind, green=()) as place:
        entry = place.router.http_url if wire == "http" else place.router.grpc_url
        file = blue_green(folder, place, entry, "300s")
        with Traffic(entry, rate=RATE) as users:
            users.wait_for(int(RATE))
            run = Popen([CANARY, "run", file, "--out", folder / "out"], stdout=PIPE, stderr=PIPE)
            while place.split().candidate_share < 1.0:
                if run.poll() is not None:
                    raise SystemExit(run.communicate()[1].decode())
                time.sleep(0.1)
            users.wait_for(int(5 * RATE))
            with Popen([CANARY, "route", "rollback", place.router.control]) as back:
                if back.wait():
                    raise SystemExit("route rollback failed")
            users.wait_for(int(5 * RATE))
            run.communicate()
        versions = users.count("version")
        if not versions["1"] or not versions["2"]:
            raise SystemExit(f"nothing was switched: {versions}")
        return _row("blue-green", kind, wire, 1, requests=len(users.answers()), failed=len(users.failed()))


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="comes-back-") as name:
        yield Path(name)


def _row(what: str, kind: str, wire: str, number: int, **more: object) -> Row:
    row = {"what": what, "ingress": kind, "wire": wire, "number": number, **more}
    return {column: str(row.get(column, "")) for column in COLUMNS}


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row[column] for column in COLUMNS[:4])


def _read() -> list[Row]:
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def _write(rows: list[Row]) -> None:
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    PAGE.write_text("\n".join(_page(rows)) + "\n")


def _page(rows: list[Row]) -> list[str]:
    lines = [
        "# Traffic that moves and comes back",
        "",
        "`make comes-back`, on a real HAProxy, a real Envoy and the embedded Triton; every measurement is a row of",
        "comes-back.csv.",
        "",
        f"| at {RATE:.0f} requests/s | ingress | wire | requests | failed | most off its share | a change takes, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    names = {"changes": f"{CHANGES} changes of the split", "blue-green": "blue-green, there and back"}
    lines += [
        f"| {names[row['what']]} | {row['ingress']} | {row['wire']} | {row['requests']} | {row['failed']} | "
        f"{row['off'] and row['off'] + ' requests'} | {row['ms']} |"
        for row in rows
        if row["what"] in names
    ]
    lines += [
        "",
        "A candidate that fails half of its requests, at 50 requests/s and a split of 50 %: from its first bad answer",
        "to all traffic at the baseline.",
        "",
        "| ingress | rollbacks | median, s | shortest, s | longest, s | requests at v1 meanwhile | of these failed |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        mine = [row for row in rows if (row["what"], row["ingress"]) == ("rollback", kind)]
        if mine:
            seconds = [float(row["seconds"]) for row in mine]
            asked, failed = (sum(int(row[key]) for row in mine) for key in ("requests", "failed"))
            lines.append(
                f"| {kind} | {len(mine)} | {statistics.median(seconds):.2f} | {min(seconds):.2f} | "
                f"{max(seconds):.2f} | {asked} | {failed} |"
            )
    return lines


if __name__ == "__main__":
    sys.exit(main())
