"""Runs rows at a site, one after another, and leaves nothing of ours behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import httpx

from harness.errors import LoadFailed, Unreachable, UsageError, WorldError
from harness.triton.conformance.row import Group, NotRun, Result, Row
from harness.triton.conformance.site import PREFIX, Site

REST_S = 15.0  # longer than Kubernetes' default period of 10 s, so that no two probes in a row meet two rows
SETTLED_S = 30.0


@dataclass(frozen=True, slots=True)
class Rules:
    """`in_use`: others use the server: rows that would disturb them are left out, and between two rows its readiness
    is 200 for `rest_s`, so that a Kubernetes probe does not fail three times in a row. `only`: names of
    rows; none: all.
    """

    in_use: bool = True
    only: Sequence[str] = ()
    rest_s: float = REST_S


def server_of(site: Site) -> dict[str, str]:
    """The server's name and version. WorldError where what answers is no Triton."""
    answer = site.api.call("GET", f"{site.api.url}/v2")  # /v2/ is another page
    try:
        said = answer.json()
        return {"name": str(said["name"]), "version": str(said["version"])}
    except (ValueError, KeyError, TypeError) as error:
        what = f"HTTP {answer.status_code} on /v2"
        raise WorldError(f"{site.api.url}: answers, but not as a Triton: {what}") from error


def check_site(site: Site, rules: Rules) -> None:
    """That rows can be measured here at all, with one model that is loaded, asked and removed.

    UsageError: the server is in use and may not have the Python backend. WorldError: it does not read the repository.
    LoadFailed: it does not load the model.
    """
    if rules.in_use and not any(site.api.config(model).get("backend") == "python" for model in _served(site)):
        raise UsageError(
            f"{site.api.url}: no model that serves there uses the Python backend, so it may be missing, and one failed "
            "load leaves the server's own readiness at 400 until a restart: pass --mine if nobody uses this server"
        )
    try:
        model = site.model(1, load=False)
        if not site.api.index(model.name):
            raise WorldError(
                f"{site.api.url} does not list what is written to {site.repository}: is it its repository?"
            )
        model.load()
        answer = model.ask(1)
        if answer.status != httpx.codes.OK:
            why = model.states().get("1") or answer.error
            raise LoadFailed(f"{site.api.url} does not serve the conformance model: {' '.join(why.split())}")
    finally:
        site.clean()


def measure(
    groups: Sequence[Group], site: Site, rules: Rules, begin: Callable[[Row], None] = lambda _: None
) -> Iterator[Result]:
    """A result for each row, as soon as it is there; `begin` is told of each row that is measured.

    UsageError: `rules.only` names no row. Unreachable: the server has gone; what could be removed is.
    """
    names = [row.name for group in groups for row in group.rows]
    if unknown := [name for name in rules.only if name not in names]:
        raise UsageError(f"there is no row {', '.join(unknown)}: known are {', '.join(names)}")
    for group in groups:
        for row in group.rows:
            if rules.only and row.name not in rules.only:
                continue
            if reason := why_not(row, site, rules):
                yield Result(group.title, row, "not run", reason=reason)
                continue
            begin(row)
            yield _measured(group.title, row, site)
            if rules.in_use:
                _rest(site, rules)


def why_not(row: Row, site: Site, rules: Rules) -> str:
    """Why a row may not be run at this site; "" where it may."""
    if row.own and not site.own:
        return "it starts servers of its own: run it without --url, on the embedded one"
    if row.disturbs and rules.in_use:
        return f"the server is in use, and {row.disturbs}: --mine if nobody uses it"
    if row.metrics and site.api.metrics_url is None:
        return "it reads the metrics page: --metrics-url"
    return ""


def left_over(site: Site) -> list[str]:
    """Models of ours that an earlier run left in the repository, because it was killed."""
    return sorted(path.name for path in site.repository.glob(f"{PREFIX}*"))


def _measured(group: str, row: Row, site: Site) -> Result:
    try:
        measured = row.measure(site)
    except NotRun as reason:
        return Result(group, row, "not run", reason=str(reason))
    except Unreachable:
        raise
    except (WorldError, KeyError, ValueError, TypeError, IndexError) as error:
        # Triton answered something that the row did not think of: that is a difference too.
        return Result(group, row, "different", reason=f"could not be measured: {type(error).__name__}: {error}")
    finally:
        site.clean()
    same = all(name in measured and measured[name] == value for name, value in row.expected.items())
    return Result(group, row, "same" if same else "different", measured)


def _served(site: Site) -> set[str]:
    return {row["name"] for row in site.api.index() if row.get("state") == "READY"}


def _rest(site: Site, rules: Rules) -> None:
    deadline = time.monotonic() + SETTLED_S
    while site.api.server_ready() != httpx.codes.OK and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(rules.rest_s)
