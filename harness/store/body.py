"""The bytes of an object as they arrive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.errors import StoreError
from harness.store.port import Store, StoredFile

CHUNK_BYTES = 1 << 20
LARGEST_WHOLE = 64 << 20
"""A manifest of some 500,000 files."""


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


def read_whole(store: Store, file: StoredFile) -> bytes:
    """A small object: a manifest, a config.pbtxt. StoreError if it is not as long as listed, or is not small."""
    if file.size > LARGEST_WHOLE:
        raise StoreError(f"{store.url}: {file.key} has {file.size:,} bytes, too many for what it should be")
    data = b"".join(store.read(file))
    if len(data) != file.size:
        raise StoreError(f"{store.url}: {file.key} broke off after {len(data)} of {file.size} bytes")
    return data
