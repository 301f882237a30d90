"""Envoy, by runtime keys that its routes ask for each request: changed and read through its admin interface.

scenarios/ingress/envoy.yaml is a configuration to copy, and says why it is as it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from harness.errors import UsageError, WorldError
from harness.ingress.address import Address
from harness.ingress.asking import Asking, short
from harness.ingress.envoy_runtime import share_of, value_of
from harness.ingress.port import Drained, Pattern, Split
from harness.types import ArmName

_DEFAULTS = {
    "key": "canary.candidate",
    "baseline": "baseline",
    "candidate": "candidate",
    "headers": "canary.header",
}
_EXAMPLE = "scenarios/ingress/envoy.yaml"
_POLL_S = 0.02
_GIVEN = ("total", "pending_active", "pending_failure_eject", "pending_overflow", "cancelled")
"""Counted for a request that the arm was given, whatever became of it: sent on, waiting for a connection, refused
one, one too many, or its client gone while it waited. `retry` is in `total` once too often.
"""


class Envoy:
    """envoy+http://127.0.0.1:9901?key=canary.candidate&baseline=v1&candidate=v2&headers=canary.header

    `key`: the runtime key that the routes ask for the candidate's share. `baseline`, `candidate`: what the clusters are
    called in Envoy's statistics; several clusters of one arm have the same `alt_stat_name`. `headers`: what the keys of
    the header's values begin with: canary.header.A.candidate at 100 sends the value A to the candidate. Changes are
    lost when Envoy restarts; `read` tells what is. It draws for each request.
    """

    def __init__(self, target: str, asking: Asking, names: Mapping[str, str]) -> None:
        self._target, self._asking = target, asking
        self._key, self._headers = names["key"], f"{names['headers']}."
        self._names: dict[ArmName, str] = {"baseline": names["baseline"], "candidate": names["candidate"]}

    @classmethod
    def at(cls, target: str) -> Envoy:
        """Sends nothing yet. Raises UsageError for what is no such address."""
        address = Address.of(target, _DEFAULTS, ("http", "https"))
        if address.names["baseline"] == address.names["candidate"]:
            raise UsageError(f"{target}: two different clusters are expected")
        where = f"envoy+{address.scheme}://{address.place}{address.path.rstrip('/')}"
        return cls(target, Asking(where, where.removeprefix("envoy+")), address.names)

    @property
    def target(self) -> str:
        return self._target

    @property
    def pattern(self) -> Pattern:
        return "random"

    def read(self) -> Split:
        """Raises WorldError where the key is not there, or its value is none that a share can be read from."""
        runtime = self._runtime()
        share = self._share(runtime)
        requests, in_flight = self._counted()
        return Split(share, self._routed(runtime), requests, in_flight, self._down())

    def set(self, candidate_share: float) -> None:
        """In steps of one in a million. Raises UsageError: not a share, or a finer one."""
        value = value_of(candidate_share)
        wanted = share_of(value)
        if share_of(self._runtime()[self._key]) == wanted:
            return
        self._change({self._key: value})
        if (now := self._runtime()[self._key]) != value:
            raise WorldError(
                f"{self._asking.where}: {self._key} was set to {value}, but {now} is in force (a later layer of its "
                "runtime, or somebody else's change)"
            )

    def header(self, values: Mapping[str, ArmName]) -> None:
        """Only values that Envoy's configuration has rules for; a change of several is one change."""
        runtime = self._runtime()
        rules = self._rules(runtime)
        for value, arm in values.items():
            if arm not in self._names:
                raise UsageError(f"{self._asking.where}: a header leads to the baseline or the candidate, not to {arm}")
            if not any(rule.value == value and rule.arm == arm for rule in rules):
                known = ", ".join(dict.fromkeys(f"{rule.value} to the {rule.arm}" for rule in rules)) or "none"
                raise UsageError(
                    f"{self._asking.where}: no rule sends the header's value {value} to the {arm}: a route that asks "
                    f"the runtime key {self._headers}{value}.{arm} is expected, as in {_EXAMPLE}; there are: {known}"
                )
        wanted = {rule.key: "100" if values.get(rule.value) == rule.arm else "0" for rule in rules}
        changes = {key: value for key, value in wanted.items() if runtime[key] != value}
        if not changes:
            return
        self._change(changes)
        if (now := self._routed(self._runtime())) != dict(values):
            raise WorldError(f"{self._asking.where}: it was told to route {dict(values)}, but its runtime says {now}")

    def drain(self, arm: ArmName, deadline_s: float, *, cut: bool = False) -> Drained:
        """Raises UsageError while the arm has a share, or a header's value leads to it.

        Envoy's admin interface ends no stream of one cluster: what is left at the deadline goes on, `cut` or not.
        """
        del cut
        begun = time.monotonic()
        if arm not in self._names:
            raise UsageError(f"{self._asking.where}: the baseline or the candidate is drained, not {arm}")
        runtime = self._runtime()
        share = self._share(runtime) if arm == "candidate" else 1 - self._share(runtime)
        if share:
            raise UsageError(f"{self._asking.where}: an arm is drained at 0 %, but the {arm} gets {share:.4%}")
        if led := [value for value, to in self._routed(runtime).items() if to == arm]:
            raise UsageError(f"{self._asking.where}: the header's value {led[0]} still leads to the {arm}")
        while True:
            in_flight = self._counted()[1]
            left = None if in_flight is None else in_flight[arm]
            if left == 0 or time.monotonic() >= begun + deadline_s:
                return Drained(left, time.monotonic() - begun)
            time.sleep(min(_POLL_S, max(begun + deadline_s - time.monotonic(), 0)))

    def close(self) -> None:
        self._asking.close()

    # ------------------------------------------------------------ the runtime

    def _runtime(self) -> dict[str, str]:
        """Each key's value in force. Raises WorldError where ours is not among them: it is never 0 for that."""
        entries = self._asking.json("/runtime").get("entries")
        if not isinstance(entries, dict):
            raise WorldError(f"{self._asking.where}: its /runtime has no entries: no admin interface of an Envoy?")
        found = {key: str(row["final_value"]) for key, row in entries.items() if _has(row, "final_value")}
        if self._key not in found:
            there = ", ".join(sorted(found)[:10]) or "none"
            raise WorldError(
                f"{self._asking.where}: no runtime key {self._key}: expected in a static layer, as in {_EXAMPLE}; "
                f"there are: {there}"
            )
        return found

    def _share(self, runtime: Mapping[str, str]) -> float:
        share = share_of(runtime[self._key])
        if share is None:
            raise WorldError(
                f"{self._asking.where}: {self._key} is {short(runtime[self._key])}: expected a percentage, or "
                "{numerator: 5, denominator: TEN_THOUSAND}"
            )
        return share

    def _rules(self, runtime: Mapping[str, str]) -> list[_Rule]:
        split = {
            key: key.removeprefix(self._headers).rpartition(".") for key in runtime if key.startswith(self._headers)
        }
        return [
            _Rule(key, value, arm)
            for key, (value, _, last) in split.items()
            for arm in self._names
            if value and last == arm
        ]

    def _routed(self, runtime: Mapping[str, str]) -> dict[str, ArmName]:
        routed: dict[str, ArmName] = {}
        for rule in self._rules(runtime):
            share = share_of(runtime[rule.key])
            if share not in (0.0, 1.0):
                raise WorldError(f"{self._asking.where}: {rule.key} is {short(runtime[rule.key])}: expected 0 or 100")
            # of two rules that are on, the candidate's comes first
            if share and routed.get(rule.value) != "candidate":
                routed[rule.value] = rule.arm
        return routed

    def _change(self, values: Mapping[str, str]) -> None:
        query = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in values.items())
        status, text = self._asking.answer("POST", f"/runtime_modify?{query}")
        if status == 503:
            raise WorldError(
                f"{self._asking.where}: its runtime cannot be changed: a layer `admin_layer: {{}}` is expected in "
                f"layered_runtime, as in {_EXAMPLE}: {short(text)}"
            )
        if status != 200:
            raise WorldError(f"{self._asking.where}: POST /runtime_modify is answered {status}: {short(text)}")

    # ------------------------------------------------------------ what the clusters did

    def _counted(self) -> tuple[Mapping[ArmName, int] | None, Mapping[ArmName, int] | None]:
        """Requests and those in flight; None where this Envoy keeps no such statistics."""
        names = {arm: name.replace(":", "_") for arm, name in self._names.items()}
        which = "|".join(re.escape(name) for name in names.values())
        wanted = quote(rf"^cluster\.({which})\.upstream_rq_({'|'.join((*_GIVEN, 'retry', 'active'))})$", safe="")
        rows = self._asking.json(f"/stats?format=json&filter={wanted}").get("stats")
        if not isinstance(rows, list):
            raise WorldError(f"{self._asking.where}: its /stats has no list of statistics")
        found = {row["name"]: row["value"] for row in rows if _has(row, "name") and type(row.get("value")) is int}

        def of(arm: ArmName, what: str) -> int:
            return int(found[f"cluster.{names[arm]}.upstream_rq_{what}"])

        try:
            requests = {arm: sum(of(arm, what) for what in _GIVEN) - of(arm, "retry") for arm in names}
            in_flight = {arm: of(arm, "active") + of(arm, "pending_active") for arm in names}
        except KeyError:
            self._clusters()  # a name that is wrong is no silence
            return None, None
        return requests, in_flight

    def _down(self) -> tuple[ArmName, ...]:
        """Arms of which a cluster has no host that Envoy holds for able to serve."""
        clusters = self._clusters()
        return tuple(
            arm
            for arm, name in self._names.items()
            if any(not _serves(row) for row in clusters if _called(row) == name)
        )

    def _clusters(self) -> list[dict[str, Any]]:
        rows = self._asking.json("/clusters?format=json").get("cluster_statuses")
        clusters = [row for row in rows if _has(row, "name")] if isinstance(rows, list) else []
        called = [_called(row) for row in clusters]
        for name in self._names.values():
            if name not in called:
                there = ", ".join(dict.fromkeys(called)) or "none"
                raise UsageError(f"{self._asking.where}: it has no cluster {name}; it has {there}")
        return clusters


@dataclass(frozen=True, slots=True)
class _Rule:
    """A value of the routed header, and the key that switches on that it leads to the arm."""

    key: str
    value: str
    arm: ArmName


def _has(row: Any, name: str) -> bool:
    return isinstance(row, dict) and isinstance(row.get(name), str)


def _called(cluster: Mapping[str, Any]) -> str:
    return str(cluster.get("observability_name") or cluster["name"])


def _serves(cluster: Mapping[str, Any]) -> bool:
    hosts = cluster.get("host_statuses")
    states = [host.get("health_status") for host in hosts if isinstance(host, dict)] if isinstance(hosts, list) else []
    return any(isinstance(state, dict) and set(state) <= {"eds_health_status"} for state in states)
