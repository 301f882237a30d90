"""Who took part in a run: the load workers, as run.json lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Roster:
    """Kept from the master's events.

    `records`, by worker: `worker`, `host`, `pid`, `local`, `lost_ns` (from the run's start; null if it was not) and
    `reason`, of a lost one `done` (the stages that it was through with), and once its files are complete `files` (bytes
    by name), `damaged`, `sent_bytes` (compressed, by when it had ended) and `clock_error_s`.
    """

    def __init__(self) -> None:
        self._records: dict[int, dict[str, Any]] = {}

    @property
    def records(self) -> list[dict[str, Any]]:
        return [dict(self._records[worker]) for worker in sorted(self._records)]

    @property
    def lost(self) -> list[str]:
        """A sentence for each worker that was lost."""
        return [
            f"load worker {record['worker']} on {record['host']} {record['reason']}"
            for record in self.records
            if record["lost_ns"] is not None
        ]

    def note(self, event: Mapping[str, Any]) -> bool:
        """Takes in an event; False if it is not about a worker."""
        about = {key: event[key] for key in ("worker", "host", "pid", "local") if key in event}
        match event["event"]:
            case "worker_joined":
                self._records[event["worker"]] = {**about, "lost_ns": None, "reason": ""}
            case "worker_lost":
                lost = {"lost_ns": event["t_ns"], "reason": event["reason"], "done": event["done"]}
                self._records[event["worker"]] |= lost
            case "worker_done":
                done = {key: event[key] for key in ("files", "damaged", "sent_bytes", "clock_error_s")}
                self._records[event["worker"]] |= done
            case _:
                return False
        return True
