"""The dynamic batcher's setting in a model's configuration: how long a request waits for others.

Pure. `dynamic_batching` is kept whole (priorities, queue policies and what else it holds): two keys of it are changed,
and going back means the mapping that there was, or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import UsageError

KEY = "dynamic_batching"
DELAY, PREFERRED = "max_queue_delay_microseconds", "preferred_batch_size"

Section = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Batching:
    """`section`: the configuration's `dynamic_batching`; None where it has none: requests are never combined."""

    section: Section | None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Batching:
        """Of a configuration in its JSON form, over gRPC or HTTP: numbers as numbers, what is not set left out."""
        found = config.get(KEY)
        return cls(None if found is None else _plain(found))

    @property
    def delay_us(self) -> int:
        """The longest that a request waits for others, microseconds."""
        return int((self.section or {}).get(DELAY, 0))

    @property
    def preferred(self) -> tuple[int, ...]:
        """Batch sizes that are sent at once."""
        return tuple(int(size) for size in (self.section or {}).get(PREFERRED, ()))

    def changed(self, delay_us: int, preferred: Sequence[int] | None = None) -> Batching:
        """With this delay and, unless None, these preferred sizes; everything else as it is."""
        section = {**(self.section or {}), DELAY: delay_us}
        if preferred is not None:
            section[PREFERRED] = list(preferred)
        return Batching(_plain(section))

    def __str__(self) -> str:
        if self.section is None:
            return "no dynamic batching"
        sizes = f", preferred batch sizes {', '.join(map(str, self.preferred))}" if self.preferred else ""
        return f"max_queue_delay {self.delay_us / 1000:g} ms{sizes}"


def check_batches(model: str, config: Mapping[str, Any], wanted: Batching) -> None:
    """Raises UsageError where the dynamic batcher cannot do what is `wanted` of this model."""
    most = int(config.get("max_batch_size", 0))
    if most < 1:
        raise UsageError(
            f"{model}: max_batch_size is {most}, so Triton forms no batches of it, whatever the queue delay; an engine "
            "that batches by itself (TensorRT-LLM, vLLM) has settings of its own: give batch jobs their own deployment"
        )
    for other in ("sequence_batching", "ensemble_scheduling"):
        if other in config:
            raise UsageError(f"{model}: is scheduled by {other}, which has no queue delay of the dynamic batcher")
    if too_large := [size for size in wanted.preferred if size > most]:
        raise UsageError(f"{model}: preferred batch size {too_large[0]} is above its max_batch_size, {most}")


def _plain(value: Any) -> Any:
    """Two forms of the same section become equal: protobuf's JSON writes 64-bit numbers as text, and HTTP all zeros."""
    if isinstance(value, Mapping):
        parts = {key: _plain(part) for key, part in sorted(value.items())}
        return {key: part for key, part in parts.items() if part not in (0, "", False, [], {})}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, str) and value.isdecimal() else value
