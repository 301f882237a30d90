"""Who may take part: both sides prove that they know the run's token, which itself never travels.

A worker sends what its master says, with the headers that the master gives it; a master hands its prompts and headers
(secrets among them) to its workers, and believes their measurements. So neither trusts a stranger. The channel itself
is neither encrypted nor protected afterwards: across a network that is not yours alone, put it into a tunnel.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from harness import __version__

# Raised whenever master and workers could misunderstand each other.
PROTOCOL = f"{__version__}/1"


def new_token() -> str:
    """Enough for one run."""
    return secrets.token_urlsafe(24)


def nonce() -> str:
    return secrets.token_hex(16)


def proof(token: str, role: str, own: str, other: str) -> str:
    """What only somebody with `token` can say: of the nonce that `role` made and the one that it was given."""
    return hmac.new(token.encode(), f"{PROTOCOL} {role} {own} {other}".encode(), hashlib.sha256).hexdigest()


def proves(claim: object, token: str, role: str, own: str, other: str) -> bool:
    """Whether `claim` is that proof."""
    return isinstance(claim, str) and hmac.compare_digest(claim.encode(), proof(token, role, own, other).encode())
