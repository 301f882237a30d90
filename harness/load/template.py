"""Bytes prepared once, before the clock runs, with holes of fixed width for what differs from request to request.

Building a request anew costs a Python client more than sending it. An encoder puts REQUEST_ID where the request's id
goes and, where prompts are to be unique, UNIQUE into the prompt; `Template.of` cuts there.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

REQUEST_ID = "~request-id-here-:~"
UNIQUE = "~unique-key-here~"[:16]
ID_SIZE, KEY_SIZE = len(REQUEST_ID), len(UNIQUE)


@dataclass(frozen=True, slots=True)
class Template:
    """`parts` with holes between them; `holes[i]` is True for the request's id and False for the unique key.

    `size` is the number of bytes of a filled one: holes have a fixed width, so it never changes.
    """

    parts: tuple[bytes, ...]
    holes: tuple[bool, ...]
    size: int

    @classmethod
    def of(cls, encoded: bytes) -> Template:
        """Cuts `encoded` at every REQUEST_ID and UNIQUE."""
        parts: list[bytes] = []
        holes: list[bool] = []
        rest = encoded
        marks = ((REQUEST_ID.encode(), True), (UNIQUE.encode(), False))
        while found := [(at, mark, is_id) for mark, is_id in marks if (at := rest.find(mark)) >= 0]:
            at, mark, is_id = min(found)
            parts.append(rest[:at])
            holes.append(is_id)
            rest = rest[at + len(mark) :]
        return cls((*parts, rest), tuple(holes), len(encoded))

    def fill(self, request_id: bytes, key: bytes = b"") -> bytes:
        """The request's bytes. `request_id` has ID_SIZE bytes, `key` KEY_SIZE where there is a hole for it."""
        parts = self.parts
        if self.holes == (True,):
            return b"".join((parts[0], request_id, parts[1]))
        filled = [parts[0]]
        for is_id, part in zip(self.holes, parts[1:], strict=True):
            filled += (request_id if is_id else key, part)
        return b"".join(filled)


def request_id(pair_id: int, arm: str, *, score: bool = False) -> str:
    """ID_SIZE characters: the pair's id in hex, the arm's first letter, and 1 for a request that scores."""
    return f"{pair_id:016x}-{arm[0]}{1 if score else 0}"


def unique_key(nonce: str, pair_id: int) -> str:
    """KEY_SIZE characters, the same for both arms of a pair, others in every run: a server that is still up from the
    last one has seen none of them. They differ from the first character on, and so does what a prefix cache sees.
    """
    return blake2b(str(pair_id).encode(), key=nonce.encode(), digest_size=KEY_SIZE // 2).hexdigest()
