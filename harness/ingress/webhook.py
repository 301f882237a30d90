"""Any other router, behind a small HTTP interface that its owner writes. The protocol:

    webhook+https://router.example/split        the address; GET and PUT go to https://router.example/split

GET is answered 200 with a JSON object that says what is in force, never what was asked for:

    {"candidate_share": 0.1,                            needed: 0 to 1
     "headers": {"A": "baseline", "B": "candidate"},    where it routes by a header: the values, {} for none
     "requests": {"baseline": 900, "candidate": 100},   where it counts: given to each arm so far
     "in_flight": {"baseline": 2, "candidate": 0},      where it knows: of these, not answered yet
     "down": ["candidate"],                             where it knows: arms that cannot serve
     "pattern": "random"}                               or "turns", see harness/ingress/port.py; random if it is missing

PUT has a JSON object with one of the two, and is answered 2xx as soon as it is taken; it may come into force later:

    {"candidate_share": 0.5}
    {"headers": {"A": "baseline", "B": "candidate"}}    exactly these from now on; {} for none

Then GET is asked until it says so, for 10 s at most. A share may be off by 0.001, as weights are whole numbers, but 0
and 1 are exact. A token in the environment, TRITON_CANARY_INGRESS_TOKEN, comes as `Authorization: Bearer ...`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from harness.errors import UsageError, WorldError
from harness.ingress.address import Address
from harness.ingress.asking import Asking, short
from harness.ingress.port import Drained, Pattern, Split
from harness.types import ArmName

TOKEN = "TRITON_CANARY_INGRESS_TOKEN"
IN_FORCE_S = 10.0
NEAR = 0.001
_POLL_S = 0.1
_ARMS: tuple[ArmName, ArmName] = ("baseline", "candidate")
_PATTERNS: tuple[Pattern, ...] = ("turns", "random")


class Webhook:
    """webhook+https://router.example/split: see above."""

    def __init__(self, target: str, asking: Asking) -> None:
        self._target, self._asking = target, asking
        self._pattern: Pattern | None = None

    @classmethod
    def at(cls, target: str) -> Webhook:
        """Sends nothing yet. Raises UsageError for what is no such address, or a token that cannot be sent."""
        if "?" in target or "#" in target:
            raise UsageError(
                f"{target.partition('?')[0]}?...: a webhook has no options: expected webhook+http://host/path"
            )
        address = Address.of(target, {}, ("http", "https"))
        token = os.environ.get(TOKEN, "")
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            raise UsageError(f"{TOKEN}: is no token: expected printable ASCII without blanks")
        url = f"{address.scheme}://{address.place}{address.path or '/'}"
        return cls(target, Asking(f"webhook+{url}", url, token))

    @property
    def target(self) -> str:
        return self._target

    @property
    def pattern(self) -> Pattern:
        if self._pattern is None:
            self.read()
        assert self._pattern is not None
        return self._pattern

    def read(self) -> Split:
        """Raises WorldError for an answer that does not follow the protocol: a part that is wrong is not left out."""
        found = self._asking.json("")
        share = found.get("candidate_share")
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= 1:
            raise self._wrong("candidate_share", "a number from 0 to 1", share)
        pattern = found.get("pattern", "random")
        if pattern not in _PATTERNS:
            raise self._wrong("pattern", "turns or random", pattern)
        self._pattern = pattern
        down = found.get("down", [])
        if not isinstance(down, list) or any(arm not in _ARMS for arm in down):
            raise self._wrong("down", "a list of baseline and candidate", down)
        return Split(
            float(share), self._headers(found), self._counts(found, "requests"), self._counts(found, "in_flight"),
            tuple(arm for arm in _ARMS if arm in down),
        )  # fmt: skip

    def set(self, candidate_share: float) -> None:
        if not 0.0 <= candidate_share <= 1.0:
            raise UsageError(f"a split gives the candidate between 0 % and 100 %, not {candidate_share:.0%}")

        def there(split: Split) -> bool:
            near = NEAR if 0.0 < candidate_share < 1.0 else 0.0
            return abs(split.candidate_share - candidate_share) <= near

        self._put({"candidate_share": candidate_share}, there, lambda split: f"{split.candidate_share:.4%}")

    def header(self, values: Mapping[str, ArmName]) -> None:
        for arm in values.values():
            if arm not in _ARMS:
                raise UsageError(f"{self._asking.where}: a header leads to the baseline or the candidate, not to {arm}")
        if values and "headers" not in self._asking.json(""):
            raise UsageError(f"{self._asking.where}: routes by no header: it tells of no `headers`")
        wanted = dict(values)
        self._put({"headers": wanted}, lambda split: split.headers == wanted, lambda split: str(dict(split.headers)))

    def drain(self, arm: ArmName, deadline_s: float, *, cut: bool = False) -> Drained:
        """Raises UsageError while the arm has a share, or a header's value leads to it. Nothing is cut.

        Where it does not tell what is in flight, the whole time is waited.
        """
        del cut
        begun = time.monotonic()
        if arm not in _ARMS:
            raise UsageError(f"{self._asking.where}: the baseline or the candidate is drained, not {arm}")
        split = self.read()
        share = split.candidate_share if arm == "candidate" else 1 - split.candidate_share
        if share or arm in split.headers.values():
            what = f"gets {share:.4%}" if share else "has values of a header that lead to it"
            raise UsageError(f"{self._asking.where}: an arm is drained at 0 %, but the {arm} {what}")
        while True:
            left = None if split.in_flight is None else split.in_flight[arm]
            if left == 0 or time.monotonic() >= begun + deadline_s:
                return Drained(left, time.monotonic() - begun)
            time.sleep(min(_POLL_S, max(begun + deadline_s - time.monotonic(), 0)))
            split = self.read()

    def close(self) -> None:
        self._asking.close()

    def _put(self, body: Mapping[str, Any], there: Callable[[Split], bool], told: Callable[[Split], str]) -> None:
        if there(self.read()):
            return
        self._asking.text("PUT", "", body)
        deadline = time.monotonic() + IN_FORCE_S
        while True:
            try:
                split = self.read()
                if there(split):
                    return
                says = f"it says {told(split)}"
            except WorldError as error:
                says = str(error)
            if time.monotonic() > deadline:
                taken = f"was sent {short(dict(body))}, and took it"
                raise WorldError(f"{self._asking.where}: {taken}, but after {IN_FORCE_S:.0f} s {says}")
            time.sleep(_POLL_S)

    def _headers(self, found: Mapping[str, Any]) -> dict[str, ArmName]:
        headers = found.get("headers", {})
        if not isinstance(headers, dict) or any(arm not in _ARMS for arm in headers.values()):
            raise self._wrong("headers", "an object of values that lead to baseline or candidate", headers)
        return dict(headers)

    def _counts(self, found: Mapping[str, Any], name: str) -> dict[ArmName, int] | None:
        if name not in found:
            return None
        counts = found[name]
        if not isinstance(counts, dict) or any(type(counts.get(arm)) is not int or counts[arm] < 0 for arm in _ARMS):
            raise self._wrong(name, "whole numbers of baseline and candidate", counts)
        return {arm: counts[arm] for arm in _ARMS}

    def _wrong(self, name: str, expected: str, found: Any) -> WorldError:
        said = "nothing" if found is None else short(repr(found))
        return WorldError(f"{self._asking.where}: {name}: expected {expected}, found {said}")
