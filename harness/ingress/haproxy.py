"""HAProxy, by the weights of two servers and by the map that a `use-server` rule asks for a header's value.

scenarios/ingress/haproxy.cfg is a configuration to copy, and says why it is as it is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

from harness.errors import CanaryError, UsageError, WorldError
from harness.ingress.address import Address
from harness.ingress.haproxy_api import TIMEOUT_S, RuntimeApi, ServerRow, escaped
from harness.ingress.port import Drained, Pattern, Split
from harness.types import ArmName

_DEFAULTS = {"backend": "canary", "baseline": "baseline", "candidate": "candidate", "headers": ""}
_POLL_S = 0.03
HEAVIEST = 256
NEAR = 0.02
"""How far the smaller share may be from the wanted one, relatively."""


class HaProxy:
    """haproxy+unix:///run/haproxy/admin.sock?backend=canary&baseline=v1&candidate=v2&headers=/etc/haproxy/x.map

    `backend`: one, or several that change together (canary_http,canary_grpc), with servers of the same names: `set`
    brings all of them to the same share, `read` reports the one that gives the candidate the most, and the sum of
    their requests. `headers`: the map's file or its number. Weights are lost when HAProxy restarts or reloads; `read`
    tells what is. HAProxy takes turns: of 100 requests 10 go to a candidate with 10 %, whoever sends them.
    """

    def __init__(self, target: str, api: RuntimeApi, names: Mapping[str, str]) -> None:
        self._target, self._api = target, api
        self._backends = list(dict.fromkeys(names["backend"].split(",")))
        self._names: dict[ArmName, str] = {"baseline": names["baseline"], "candidate": names["candidate"]}
        self._map = f"#{names['headers']}" if names["headers"].isdecimal() else names["headers"]

    @classmethod
    def at(cls, target: str) -> HaProxy:
        """Sends nothing yet. Raises UsageError for what is no such address."""
        address = Address.of(target, _DEFAULTS, ("unix", "tcp"))
        names = address.names
        if address.path or names["baseline"] == names["candidate"] or "" in names["backend"].split(","):
            raise UsageError(f"{target}: expected a backend, or several with commas between, and two different servers")
        if any(sign in "".join(names.values()) for sign in " ;\\\n\r\t"):
            raise UsageError(f"{target}: names without blanks, semicolons and backslashes are expected")
        scheme: Literal["unix", "tcp"] = "unix" if address.scheme == "unix" else "tcp"
        return cls(target, RuntimeApi(scheme, address.place), names)

    @property
    def target(self) -> str:
        return self._target

    @property
    def pattern(self) -> Pattern:
        return "turns"

    def read(self) -> Split:
        """Raises WorldError where both weights of a backend are 0: then every request fails, which is no split."""
        rows = self._rows()
        for backend, arms in rows.items():
            if not sum(row.weight for row in arms.values()):
                servers = " and ".join(f"{backend}/{name}" for name in self._names.values())
                raise WorldError(f"{self._api.where}: both {servers} have weight 0: HAProxy answers every request 503")
        return Split(
            max(_share(arms) for arms in rows.values()),
            {value: arm for value, arm in self._routed().items() if arm is not None} if self._map else {},
            {arm: sum(arms[arm].requests for arms in rows.values()) for arm in self._names},
            {arm: sum(arms[arm].in_flight for arms in rows.values()) for arm in self._names},
            tuple(arm for arm in self._names if any(arms[arm].down for arms in rows.values())),
        )

    def set(self, candidate_share: float) -> None:
        """Raises WorldError where an arm that is to get requests cannot: HAProxy gives them to the other one.

        The weights are set all the same, and in every backend where they can be. UsageError: not a share, or one that
        weights from 0 to 256 cannot give.
        """
        try:
            baseline, candidate = weights(candidate_share)
        except UsageError as error:
            raise UsageError(f"{self._api.where}: {error}") from error
        wanted: dict[ArmName, int] = {"baseline": baseline, "candidate": candidate}
        failures: list[CanaryError] = []
        for backend in self._backends:
            try:
                self._weigh(backend, wanted)
            except CanaryError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        for backend, arms in self._rows().items():
            for arm, row in arms.items():
                if wanted[arm] and row.down:
                    raise WorldError(
                        f"{self._api.where}: the split is set, but {backend}/{self._names[arm]} is {row.status}: "
                        "HAProxy gives it no request, whatever its weight"
                    )

    def header(self, values: Mapping[str, ArmName]) -> None:
        """Entries that lead to neither of the two servers are not ours, and stay."""
        if not self._map:
            raise UsageError(
                f"{self._api.where}: to route by a header, HAProxy needs a `use-server` rule that asks a map, and the "
                "address headers=/path/of/the.map; scenarios/ingress/haproxy.cfg shows both"
            )
        for value, arm in values.items():
            if arm not in self._names:
                raise UsageError(f"{self._api.where}: a header leads to the baseline or the candidate, not to {arm}")
            if not value or not value.isascii() or not value.isprintable() or " " in value:
                raise UsageError(f"{self._api.where}: a routed header's value is one word of ASCII, not {value!r}")
        entries = self._api.map(self._map)
        for value in {key: None for key, server in entries if server in self._names.values() and key not in values}:
            self._api.do(f"del map {self._map} {escaped(value)}")
        for value, arm in values.items():
            there = {server for key, server in entries if key == value}
            if there != {self._names[arm]}:
                self._api.do(f"{'set' if there else 'add'} map {self._map} {escaped(value)} {self._names[arm]}")
        if (now := {value: arm for value, arm in self._routed().items() if arm is not None}) != dict(values):
            raise WorldError(f"{self._api.where}: HAProxy was told to route {dict(values)}, but {self._map} says {now}")

    def drain(self, arm: ArmName, deadline_s: float, *, cut: bool = False) -> Drained:
        """Raises UsageError while the arm has a share, or a header's value leads to it."""
        if arm not in self._names:
            raise UsageError(f"{self._api.where}: the baseline or the candidate is drained, not {arm}")
        where, begun = self._api.where, time.monotonic()
        for backend, arms in self._rows().items():
            if arms[arm].weight:
                share = _share(arms) if arm == "candidate" else 1 - _share(arms)
                raise UsageError(f"{where}: an arm is drained at 0 %, but {backend} gives the {arm} {_percent(share)}")
        if self._map and (led := [value for value, to in self._routed().items() if to == arm]):
            raise UsageError(f"{where}: the header's value {led[0]} still leads to the {arm}, which is to drain")
        left = self._await(arm, begun + deadline_s)
        remain = left
        if left and cut:
            for backend in self._backends:
                self._api.do(f"shutdown sessions server {backend}/{self._names[arm]}")
            remain = self._await(arm, time.monotonic() + TIMEOUT_S)
        return Drained(left, time.monotonic() - begun, max(left - remain, 0))

    def close(self) -> None:
        """Each command has its own connection."""

    def _rows(self) -> dict[str, dict[ArmName, ServerRow]]:
        return {backend: self._arms(backend) for backend in self._backends}

    def _arms(self, backend: str) -> dict[ArmName, ServerRow]:
        servers = self._api.servers(backend)
        for name in self._names.values():
            if name not in servers:
                has = ", ".join(servers) or "none"
                raise UsageError(f"{self._api.where}: backend {backend} has no server {name}; it has {has}")
        return {arm: servers[name] for arm, name in self._names.items()}

    def _routed(self) -> dict[str, ArmName | None]:
        """The map's values of the header, and the arm of each; None: somebody else's server."""
        arms = {name: arm for arm, name in self._names.items()}
        # reversed: of entries with the same key, HAProxy takes the first
        return {value: arms.get(server) for value, server in reversed(self._api.map(self._map))}

    def _weigh(self, backend: str, wanted: Mapping[ArmName, int]) -> None:
        now = {arm: row.weight for arm, row in self._arms(backend).items()}
        both = now["baseline"] + now["candidate"]
        if both and now["candidate"] * wanted["baseline"] == wanted["candidate"] * now["baseline"]:
            return
        # first the one that rises: with both at 0, requests that come in between would get 503
        order = sorted(self._names, key=lambda arm: now[arm] - wanted[arm])
        self._api.weights(backend, {self._names[arm]: wanted[arm] for arm in order})
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            now = {arm: row.weight for arm, row in self._arms(backend).items()}
            if now == wanted:
                return
            if time.monotonic() > deadline:
                raise WorldError(
                    f"{self._api.where}: {backend}'s weights were set to {dict(wanted)}, but {now} are in force (a "
                    "slow start, or somebody else's change)"
                )
            time.sleep(_POLL_S)

    def _await(self, arm: ArmName, deadline: float) -> int:
        """What is in flight at the arm: 0, or what is left at the deadline."""
        while True:
            left = sum(arms[arm].in_flight for arms in self._rows().values())
            if not left or time.monotonic() >= deadline:
                return left
            time.sleep(min(_POLL_S, max(deadline - time.monotonic(), 0)))


def weights(candidate_share: float) -> tuple[int, int]:
    """Of the baseline and the candidate: the pair from 0 to 256 whose share is nearest, in hundredths where that is
    exact. Raises UsageError, with the nearest shares, where the smaller share would be over 2 % from the wanted one.
    """
    if not 0.0 <= candidate_share <= 1.0:
        raise UsageError(f"a split gives the candidate between 0 % and 100 %, not {candidate_share:.0%}")
    smaller = min(candidate_share, 1 - candidate_share)
    pairs = [(more, round(more * smaller / (1 - smaller))) for more in range(1, HEAVIEST + 1)]

    def off(pair: tuple[int, int]) -> float:
        return round(abs(pair[1] / sum(pair) - smaller), 9)

    more, less = min(pairs, key=lambda pair: (off(pair), sum(pair) != 100, sum(pair)))
    if smaller and off((more, less)) > NEAR * smaller:
        least = 1 / (HEAVIEST + 1)
        none, some = (0.0, least) if candidate_share < 0.5 else (1.0, 1 - least)
        raise UsageError(
            f"HAProxy's weights, 0 to {HEAVIEST}, cannot give the candidate {_percent(candidate_share)}: "
            f"{_percent(none)} and {_percent(some)} are the nearest"
        )
    return (more, less) if candidate_share <= 0.5 else (less, more)


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _share(arms: Mapping[ArmName, ServerRow]) -> float:
    return arms["candidate"].weight / max(sum(row.weight for row in arms.values()), 1)
