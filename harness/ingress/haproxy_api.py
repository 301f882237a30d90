"""HAProxy's runtime API: commands over its stats socket, one connection each, and the tables that it answers with.

A success is an empty reply, and an error is text: neither has a status. So whoever changes something reads it back.
"""

from __future__ import annotations

import csv
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.errors import Unreachable, UsageError, WorldError

TIMEOUT_S = 5.0
_NOT_THERE = ("No such backend", "No such server", "No such proxy", "Unknown map identifier")
_SERVES = ("UP", "no check")
"""What the status of a server that gets requests begins with; MAINT, DRAIN, NOLB and DOWN get none, at any weight."""


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A server's line of `show stat`. `weight`: the one in force, which a slow start may hold below the one set; of a
    server that is down, the one set.
    """

    weight: int
    status: str
    requests: int
    in_flight: int

    @classmethod
    def of(cls, row: Mapping[str, str]) -> ServerRow:
        # of a server that is down, `weight` is what it was before or 0, as it happens
        in_force = row["status"].startswith(_SERVES) or not row.get("uweight")
        weight = int(row["weight"] if in_force else row["uweight"])
        return cls(weight, row["status"], int(row["stot"]), int(row["scur"]) + int(row["qcur"]))

    @property
    def down(self) -> bool:
        return not self.status.startswith(_SERVES)


class RuntimeApi:
    """Asks one stats socket. Every error is one line that begins with its address."""

    def __init__(self, scheme: Literal["unix", "tcp"], place: str) -> None:
        """`place`: a path or host:port. Raises UsageError where that has no port."""
        self.where = f"haproxy+{scheme}://{place}"
        self._path = place if scheme == "unix" else ""
        host, _, port = place.rpartition(":")
        if scheme == "tcp" and not (host and port.isdecimal()):
            raise UsageError(f"{self.where}: expected haproxy+tcp://host:port")
        self._peer = (host.strip("[]"), int(port)) if scheme == "tcp" else None

    def ask(self, *commands: str) -> list[str]:
        """The lines that the commands have to say, empty ones left out.

        Raises Unreachable; UsageError for what is not there; WorldError where the socket lacks the right.
        """
        sent = ";".join(commands)
        try:
            with self._connect() as connection:
                connection.sendall(sent.encode() + b"\n")
                received = b"".join(iter(lambda: connection.recv(65536), b""))
        except TimeoutError as error:
            raise Unreachable(f"{self.where}: HAProxy did not answer within {TIMEOUT_S:.0f} s") from error
        except OSError as error:
            raise Unreachable(f"{self.where}: HAProxy does not answer: {error.strerror or error}") from error
        if not received:  # even a success is a line's end
            raise Unreachable(f"{self.where}: HAProxy hung up without an answer to: {sent}")
        lines = [line for line in received.decode(errors="replace").splitlines() if line]
        for line in lines:
            if line.startswith("Permission denied"):
                raise WorldError(
                    f"{self.where}: HAProxy says: Permission denied. Its `stats socket` line needs `level admin`"
                )
            if line.startswith(_NOT_THERE):
                raise UsageError(f"{self.where}: HAProxy says: {line} It was asked: {sent}")
        return lines

    def do(self, *commands: str) -> None:
        """For commands that say nothing where they succeed. Raises WorldError with what HAProxy said, else."""
        for line in self.ask(*commands):
            raise WorldError(f"{self.where}: HAProxy says: {line} It was told: {'; '.join(commands)}")

    def servers(self, backend: str) -> dict[str, ServerRow]:
        """By name. Raises UsageError where the backend does not take turns, so that weights are no shares."""
        lines = self.ask(f"show stat {backend} 6 -1")  # 6: the backend itself (2) and its servers (4)
        try:
            if not lines[0].startswith("# pxname,"):
                raise ValueError(lines[0])
            rows = list(csv.DictReader([lines[0].removeprefix("# "), *lines[1:]]))
            for row in rows:
                # empty: this version, or this socket's level, does not tell
                if row["svname"] == "BACKEND" and row.get("algo") not in (None, "", "roundrobin", "static-rr"):
                    raise UsageError(
                        f"{self.where}: backend {backend} balances by {row['algo']}, where weights are no shares of "
                        "the requests: expected `balance roundrobin`"
                    )
            return {row["svname"]: ServerRow.of(row) for row in rows if row["svname"] != "BACKEND"}
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise WorldError(f"{self.where}: no table of statistics of {backend}: {' '.join(lines)[:200]}") from error

    def weights(self, backend: str, wanted: dict[str, int]) -> None:
        """Sets weights in this order, in one go, and reads them back."""
        names = [f"{backend}/{name}" for name in wanted]
        told = [f"set weight {name} {weight}" for name, weight in zip(names, wanted.values(), strict=True)]
        lines = self.ask(*told, *(f"get weight {name}" for name in names))
        got = [line for line in lines if " (initial " in line]
        if refused := [line for line in lines if line not in got]:
            raise WorldError(f"{self.where}: HAProxy says: {refused[0]} It was told: {'; '.join(told)}")
        if (have := [line.partition(" ")[0] for line in got]) != [str(weight) for weight in wanted.values()]:
            said = ", ".join(f"{name} {weight}" for name, weight in zip(names, have, strict=False))
            raise WorldError(f"{self.where}: HAProxy took {'; '.join(told)} without a word, but says now: {said}")

    def map(self, name: str) -> list[tuple[str, str]]:
        """The entries of a map: key and value. A key may be there more than once; the first counts."""
        entries = [line.split(" ", 1)[1].rpartition(" ") for line in self.ask(f"show map {name}") if " " in line]
        return [(key, value) for key, _, value in entries]

    def _connect(self) -> socket.socket:
        if self._peer:
            return socket.create_connection(self._peer, TIMEOUT_S)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(self._path)
        except BaseException:
            connection.close()
            raise
        return connection


def escaped(text: str) -> str:
    """As one word of a command: `;` ends one, and `<<` at its end begins an input of several lines."""
    return "".join(f"\\{sign}" if sign in "\\;<" else sign for sign in text)
