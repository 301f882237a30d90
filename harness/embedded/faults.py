"""What may be wrong with a request to a demonstration model, and what its bad builds do."""

from __future__ import annotations

import hashlib

ERROR_SHARE = 0.3
SLOWDOWN = 0.3
"""Of a step, by which the build `slow` is longer."""


class BadRequest(ValueError):
    """A request that cannot be served as asked; the message is for the client."""


def errs(number: int) -> bool:
    """Whether the build `erring` fails its request of that number (from 0): 30 %, the same every time."""
    digest = hashlib.blake2b(f"erring {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < ERROR_SHARE * 2**64
