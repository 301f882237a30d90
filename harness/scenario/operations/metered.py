"""A server whose memory is read, in an operation that has a limit on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, model_validator

from harness.scenario.fields import MetricsUrls, Section, Wrong, memory_text
from harness.scenario.readers import memory_read
from harness.types import Gate


class Metered(Section):
    """How the memory of a server is read that is not the embedded one."""

    metrics_url: MetricsUrls = Field(
        (), description="its metrics: http://host:8002/metrics; or a list: of its Triton, a DCGM exporter, an engine"
    )
    server_pid: int | None = Field(None, ge=1, description="its process on this machine, where memory is read of it")

    @model_validator(mode="after")
    def _meters_of_its_own(self) -> Metered:
        for key in ("metrics_url", "server_pid"):
            if self.embedded_server and getattr(self, key):
                raise Wrong(f"the embedded server has its own {key}; give server or {key}, not both", key)
        return self

    @property
    def embedded_server(self) -> bool:
        found: Any = getattr(self, "server", None)
        return found is not None

    def reads(self, limit: Gate, urls: Sequence[str]) -> str:
        """A step: what memory is read, and what for; or that nobody can. `urls`: where models are called."""
        known = self.embedded_server or self.server_pid is not None
        return f"memory at most {memory_text(limit)} meanwhile, read {memory_read(known, self.metrics_url, urls)}"
