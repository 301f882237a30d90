"""Weighted rendezvous hashing: which arm a unit belongs to, by its name alone.

Every arm draws a number for the unit from a hash, h in (0, 1), and the arm with the highest -weight / ln(h) has it.
So each arm gets its weight's share of the units; whoever knows the salt finds the same arm, without a table; and where
weights change, units move only to arms whose share grew, from arms whose share shrank.

Rendezvous (highest random weight) hashing: Thaler and Ravishankar, IEEE/ACM Transactions on Networking 6 (1998). The
logarithmic weights: Schindelhauer and Schomaker, Weighted Distributed Hash Tables, SPAA 2005; as a score to maximise:
Resch, New Hashing Algorithms for Data Storage, SNIA 2015. -ln(h) / weight is an exponential time of that rate, and the
first of several comes with its rate's share of the probability.

The hash is BLAKE2b of 8 bytes over the salt, the unit and the arm in UTF-8, each behind its length in 4 bytes (big
endian); h = (hash as a big-endian number + 1/2) / 2^64. A gateway in any language can do the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b

_SIZE = 8


def arm_of(salt: str, unit: str, weights: Mapping[str, float]) -> str:
    """The arm of a unit; an arm without weight gets none. Raises ValueError where no arm has any."""
    scores = {arm: _score(uniform(salt, unit, arm), weight) for arm, weight in weights.items() if weight > 0}
    if not scores:
        raise ValueError("expected an arm with a weight above 0")
    # A tie takes two equal hashes; by name, so that it does not depend on the order of the arms.
    return max(scores, key=lambda arm: (scores[arm], arm))


def uniform(salt: str, unit: str, word: str) -> float:
    """A number in (0, 1) that these three fix for good."""
    digest = blake2b(digest_size=_SIZE)
    for part in (salt, unit, word):
        raw = part.encode()
        digest.update(len(raw).to_bytes(4, "big") + raw)
    # At most 1 - 2^-53: its logarithm is never 0.
    return min((int.from_bytes(digest.digest(), "big") + 0.5) / 2.0 ** (8 * _SIZE), 1 - 2.0**-53)


def _score(h: float, weight: float) -> float:
    return -weight / math.log(h)
