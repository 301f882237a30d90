"""Whether a version fits beside what serves, before anything is loaded: needed against free, device by device.

Guarantee: nothing is sent to the server but questions. What is not known never blocks a load, and is said. Memory that
is free now may be taken a moment later: this is a look, no reservation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.errors import CanaryError, UnsafeChange
from harness.run.costs import COST, known
from harness.run.journal import Journal
from harness.run.machine import HOST, Look, Machine
from harness.run.models.needs import Candidate, Need
from harness.run.models.proposals import proposals
from harness.run.models.site import LOCK, Site, locked
from harness.run.state import state_folder
from harness.triton import Control, read_config

Answer = Literal["fits", "does not fit", "unknown"]


@dataclass(frozen=True, slots=True)
class Row:
    """One device; bytes. `needed` has its margin in it; None, as `free`, where it is not known."""

    device: str
    needed: float | None
    margin: float
    free: float | None
    total: float | None
    evidence: str
    answer: Answer

    @property
    def words(self) -> str:
        where = "of host memory" if self.device == HOST else f"on {self.device}"
        if self.needed is None:
            return f"what it needs {where} is not known ({self.evidence})"
        margin = f", {100 * self.margin / (self.needed - self.margin):.0f} % on top as margin" if self.margin else ""
        needs = f"needs {size(self.needed)} {where} ({self.evidence}{margin})"
        if self.free is None:
            return f"{needs}, and how much is free there is not known from here"
        of = f" of {size(self.total)}" if self.total is not None else ""
        return f"{needs}, {size(self.free)}{of} are free"


@dataclass(frozen=True, slots=True)
class Fit:
    """Of `versions` that would join those of `model` on the server `url`. `why`: what keeps it from being known."""

    url: str
    model: str
    versions: tuple[int, ...]
    rows: tuple[Row, ...] = ()
    why: str = ""
    proposals: tuple[str, ...] = field(default=())

    @property
    def answer(self) -> Answer:
        answers = [row.answer for row in self.rows]
        if "does not fit" in answers:
            return "does not fit"
        return "unknown" if self.why or "unknown" in answers else "fits"

    @property
    def sentence(self) -> str:
        who = f"{self.model}: version {', '.join(map(str, self.versions))}"
        if self.answer == "fits":
            return f"{who} fits: {'; '.join(row.words for row in self.rows) or 'it serves already'}"
        if self.answer == "unknown":
            open_rows = [row.words for row in self.rows if row.answer == "unknown"]
            return f"{who}: whether it fits on {self.url} is not known: {self.why or '; '.join(open_rows)}"
        full = "; ".join(row.words for row in self.rows if row.answer == "does not fit")
        return "; ".join([f"{who} does not fit beside what serves on {self.url}: {full}", *self.proposals])

    @property
    def document(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "url": self.url, "answer": self.answer, "reason": self.sentence, "proposals": list(self.proposals),
            "devices": [
                {
                    "device": row.device, "needed_bytes": _whole(row.needed), "free_bytes": _whole(row.free),
                    "total_bytes": _whole(row.total), "evidence": row.evidence, "answer": row.answer,
                }
                for row in self.rows
            ],
        }  # fmt: skip


def fit(
    control: Control, model: str, wanted: Sequence[int], *, journal: Journal, repository: Path | None, look: Look,
    stated: float | None = None, taken: Mapping[str, float] | None = None,
) -> Fit:  # fmt: skip
    """Whether those of `wanted` that do not serve yet fit. `taken`: bytes by device that are spoken for already.

    Raises what Control raises where the server does not answer, and UsageError for a config.pbtxt that is none.
    """
    serving = control.loaded(model)
    joining = tuple(sorted(set(wanted) - set(serving)))
    if not joining:
        return Fit(control.url, model, tuple(sorted(set(wanted))))
    config = control.config(model) if serving else _from_disk(repository, model)
    if config.get("platform") == "ensemble":
        return Fit(control.url, model, joining, why="an ensemble: its steps take the memory, and are loaded with it")
    seen = bool(serving) or repository is not None
    machine = look(control.url)
    if machine.unknown:
        return Fit(control.url, model, joining, why=machine.unknown)
    found = known(journal, control.url, model)
    candidates = [Candidate(model, version, config, repository, machine, found, serving, stated) for version in joining]
    rows = tuple(_rows(candidates, machine, taken or {}))
    full = [row for row in rows if row.answer == "does not fit"]
    return Fit(
        control.url, model, joining, rows, "" if seen else "its configuration is not seen from here",
        tuple(proposals(control, candidates[0], {row.device: row.needed or 0.0 for row in full})) if full else (),
    )  # fmt: skip


def fits(
    site: Site, model: str, wanted: Mapping[str, Sequence[int]], *, stated: float | None = None
) -> Iterator[Fit]:  # fmt: skip
    """The same for each server in `wanted`, in the order in which they are changed.

    Servers on this machine share its memory: what is for one of them is not free for the next.
    """
    taken: dict[str, float] = {}
    for control in site.servers:
        if control.url not in wanted:
            continue
        found = fit(
            control, model, wanted[control.url], journal=site.journal, repository=site.repository, look=site.look,
            stated=stated, taken=taken,
        )  # fmt: skip
        yield found
        for row in found.rows:
            taken[row.device] = taken.get(row.device, 0.0) + (row.needed or 0.0)


def refuse(found: Fit, *, allow: str, allowed: bool) -> None:
    """Raises UnsafeChange where it does not fit, unless that is `allowed`; `allow` says by what."""
    if found.answer == "does not fit" and not allowed:
        raise UnsafeChange(f"{found.sentence}; nothing was loaded; to load it all the same: {allow}")


def remember(journal: Journal, url: str, model: str) -> None:
    """What the last load of `journal` has cost is kept beside the server's other state, for whoever loads it next.

    Nothing fails because of it.
    """
    folder = state_folder([url])
    last = [entry for entry in journal.entries() if entry.action == COST and entry.target.startswith(f"{url}/{model}/")]
    if not last or folder == journal.folder:
        return
    with (
        suppress(CanaryError), locked(folder / LOCK),
        Journal(folder).action(COST, last[-1].target, before=last[-1].before, wanted=last[-1].wanted),
    ):  # fmt: skip
        pass


def size(amount: float | None) -> str:
    """ "1.5 GiB", for a person."""
    if amount is None:
        return "-"
    return f"{amount / 2**30:.1f} GiB" if amount >= 2**30 else f"{amount / 2**20:.0f} MiB"


def _rows(candidates: Sequence[Candidate], machine: Machine, taken: Mapping[str, float]) -> list[Row]:
    needs: dict[str, list[Need | None]] = {}
    for candidate in candidates:
        for device in candidate.devices:
            needs.setdefault(device, []).append(candidate.need(device))
    return [_row(device, found, machine, taken.get(device, 0.0)) for device, found in needs.items()]


def _row(device: str, needs: Sequence[Need | None], machine: Machine, taken: float) -> Row:
    sure = [need for need in needs if need is not None]
    amount = sum(need.total for need in sure) if sure else None
    free = machine.free.get(device)
    evidence = "; ".join(dict.fromkeys(need.evidence for need in sure)) or "nothing was measured, and no file is seen"
    if free is None and device != HOST and machine.missing:
        evidence = f"{evidence}; {machine.missing}"
    free = None if free is None else max(0.0, free - taken)
    margin = sum(need.margin for need in sure)
    return Row(device, amount, margin, free, machine.total.get(device), evidence, _answer(amount, free, needs))


def _answer(amount: float | None, free: float | None, needs: Sequence[Need | None]) -> Answer:
    if amount is None or free is None:
        return "unknown"
    if amount > free:
        return "does not fit"
    return "unknown" if any(need is None or need.bound for need in needs) else "fits"


def _whole(amount: float | None) -> int | None:
    return None if amount is None else round(amount)


def _from_disk(repository: Path | None, model: str) -> dict[str, Any]:
    return read_config(repository / model / "config.pbtxt") if repository is not None else {}
