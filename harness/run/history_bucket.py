"""A bucket that holds a history: the same files as a folder, under a prefix of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness.errors import StoreError
from harness.history.place import SUFFIX
from harness.store import StoredFile
from harness.store.s3 import S3Store


class BucketPlace:
    """Many may read and write at once: an object is there as a whole or not at all, and nobody changes one."""

    def __init__(self, store: S3Store) -> None:
        self._store, self.where = store, store.url
        self._files: Mapping[str, StoredFile] = {}

    def names(self) -> list[str]:
        listing = self._store.list()
        if not listing.complete:
            raise StoreError(f"{self.where}: was not listed to its end")
        self._files = listing.files
        return [name for name in self._files if name.endswith(SUFFIX) and "/" not in name]

    def open(self, name: str) -> Any:
        try:
            return pa.BufferReader(b"".join(self._store.read(self._files[name])))
        except StoreError:
            if name not in self._store.list(name).files:
                raise FileNotFoundError(name) from None
            raise

    def put(self, name: str, data: bytes) -> None:
        with tempfile.NamedTemporaryFile(suffix=SUFFIX) as file:
            file.write(data)
            file.flush()
            self._store.write(name, Path(file.name))

    def remove(self, name: str) -> None:
        self._store.remove(name)

    def tidy(self) -> None:
        """An object that was not written to its end is none."""
