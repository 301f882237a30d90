"""The bytes of an object as they arrive, counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.errors import StoreError

CHUNK_BYTES = 1 << 20


def counted(chunks: Iterable[bytes], expected: int, where: str, skip: int = 0) -> Iterator[bytes]:
    """The chunks, `expected` bytes in all, of which the first `skip` are not passed on.

    StoreError at the end where there were fewer, at once for more.
    """
    seen = 0
    for chunk in chunks:
        wanted = chunk[max(0, skip - seen) :]
        seen += len(chunk)
        if seen > expected:
            raise StoreError(f"{where}: more came than the {expected} bytes that the store announced")
        if wanted:
            yield wanted
    if seen < expected:
        raise StoreError(f"{where}: the body broke off after {seen} of {expected} bytes")
