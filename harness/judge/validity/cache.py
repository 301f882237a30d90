"""Whether both arms' caches were equally warm: Triton's response cache, prefix and KV reuse of the engine.

A cache that hits more often makes its arm faster, whatever the build: the times of such arms are not compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.judge import words
from harness.judge.columns import ARMS, BASELINE, CANDIDATE
from harness.judge.statistics.counts import difference_bound
from harness.judge.validity.fault import Fault, fault, times
from harness.judge.validity.signals import grown
from harness.judge.view import StageView
from harness.types import CacheUse

TOLERANCE = 0.05
ALPHA = 0.001
FEW = 20


@dataclass(frozen=True, slots=True)
class _Source:
    """Two counters of one cache; `looked` are look-ups, or misses where `misses` says so: then either without the other
    tells nothing (TensorRT-LLM's backend in Triton counts the blocks that were reused alone).
    """

    cache: str
    source: str
    hits: str
    looked: str
    misses: bool


SOURCES = (
    _Source("response", "triton", "cache.hits", "cache.misses", True),
    _Source("prefix", "vllm", "prefix_cache.hits", "prefix_cache.queries", False),
    _Source("kv", "trtllm", "kv_cache.reused_blocks", "kv_cache.missed_blocks", True),
    # What engines say in each answer (OpenAI's usage.prompt_tokens_details), summed by the load's workers.
    _Source("prompt", "generator", "prompt.cached_tokens", "prompt.tokens", False),
)


def measure(view: StageView) -> tuple[CacheUse, ...]:
    """One a cache that either arm used in this stage."""
    found = []
    for source in SOURCES:
        hits, looked = grown(view, source.source, source.hits), grown(view, source.source, source.looked)
        one, two = (_rate(view, source, arm, hits, looked) for arm in (BASELINE, CANDIDATE))
        if one is not None or two is not None:
            found.append(CacheUse(source.cache, one, two))
    return tuple(found)


def _rate(view: StageView, source: _Source, arm: int, hits: dict[str, float], looked: dict[str, float]) -> float | None:
    if source.misses:
        both = hits.keys() & looked.keys()
        hits, looked = ({device: counts[device] for device in both} for counts in (hits, looked))
    got, asked = (sum(counts[device] for device in _devices(view, source, arm, counts)) for counts in (hits, looked))
    total = asked + got if source.misses else asked
    return min(got / total, 1.0) if total > 0 else None


def _devices(view: StageView, source: _Source, arm: int, counts: dict[str, float]) -> list[str]:
    """Those that belong to one arm. Where both arms bear one name, on two servers, nothing tells them apart."""
    if source.source == "generator":
        return [device for device in counts if device.rpartition("/")[2] == ARMS[arm]]
    devices = view.evidence.devices
    if devices.get("baseline") == devices.get("candidate"):
        return []
    return [device for device in counts if device == devices.get(ARMS[arm])]


def judge(view: StageView, seen: tuple[CacheUse, ...]) -> list[Fault]:
    """Over 5 points apart, and surely apart: a look-up a request, because tokens of one request hit together."""
    n1, n2 = view.answered
    if min(n1, n2) < FEW or view.plan.purpose == "deploy":
        return []
    found = []
    for cache in seen:
        one, two = cache.baseline, cache.candidate
        if one is None or two is None or abs(two - one) <= TOLERANCE:
            continue
        k1, k2 = round(one * n1), round(two * n2)
        low = difference_bound(k2, n2, k1, n1, alpha=ALPHA, side="lower")
        high = difference_bound(k2, n2, k1, n1, alpha=ALPHA, side="upper")
        if low <= 0 <= high:
            continue
        v1, v2 = view.names
        reason = (
            f"the {cache.cache} cache hit in {words.percent(two)} of look-ups on {v2} and in {words.percent(one)} on "
            f"{v1}: a warmer cache is not a faster build; ask with unique prompts, or warm both alike"
        )
        # A small share of the traffic warms a cache less: that alone must not keep a split from going on.
        found.append(fault(view, "cache", reason, voids=times, stops=view.role == "comparison"))
    return found
