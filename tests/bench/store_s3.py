"""How fast S3Store and publish are beside boto3's own calls, against a real SeaweedFS on this machine.

    python tests/bench/store_s3.py [MiB]

Prints each rate, the peer's, and their ratio (above 1: we are faster); the median of seven rounds, taken in turns.
The peer of a download is `download_fileobj` into a file of the same kind, which fetches parts in parallel; ours is
one stream a file, hashed as it arrives, as sync reads it.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3

from harness.embedded import EmbeddedS3
from harness.store import publish
from harness.store.manifest import sha256_of
from harness.store.s3 import S3Store

ROUNDS = 7


def main(mib: int) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="bench-s3-") as name,
        EmbeddedS3(Path(name) / "s3", Path(name) / "log") as s3,
    ):
        os.environ.update(s3.environment)
        folder, store = Path(name), S3Store("s3://models/bench")
        client = boto3.client("s3", endpoint_url=s3.endpoint)
        listing(store, client, folder)
        large(store, client, folder, mib)
        many(store, folder, mib)
        client.close()
        store.close()


def listing(store: S3Store, client: object, folder: Path) -> None:
    (folder / "one").write_bytes(b"1")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.write(f"keys/1/{number:04}", folder / "one"), range(1000)))

    def peer() -> None:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="models", Prefix="bench/keys/")  # type: ignore[attr-defined]
        assert sum(len(page["Contents"]) for page in pages) == 1000

    def ours() -> None:
        assert len(store.list("keys/").files) == 1000

    compare("list 1,000 keys", "keys/s", 1000, ours, peer)


def large(store: S3Store, client: object, folder: Path, mib: int) -> None:
    source, target = folder / "large", folder / "target"
    source.write_bytes(os.urandom(mib << 20))
    sha256 = sha256_of(source)

    def down() -> None:
        file, digest = store.list("large").files["large"], hashlib.sha256()
        with target.open("wb") as stream:
            for block in store.read(file):
                stream.write(block)
                digest.update(block)
        assert digest.hexdigest() == sha256

    def peer_down() -> None:
        with target.open("wb") as stream:
            client.download_fileobj("models", "bench/large", stream)  # type: ignore[attr-defined]
        assert target.stat().st_size == mib << 20

    compare(
        f"upload one file of {mib} MiB", "MiB/s", mib,
        lambda: store.write("large", source, sha256),
        lambda: client.upload_file(str(source), "models", "bench/peer"),  # type: ignore[attr-defined]
    )  # fmt: skip
    compare(f"download one file of {mib} MiB", "MiB/s", mib, down, peer_down)


def many(store: S3Store, folder: Path, mib: int) -> None:
    built = folder / "build"
    built.mkdir()
    for number in range(32):
        (built / f"part-{number}").write_bytes(os.urandom(mib * (1 << 20) // 32))
    (folder / "config.pbtxt").write_text('name: "llm"\n')
    versions = iter(range(1, 100))

    def ours() -> None:
        publish(store, built, "llm", next(versions), config=folder / "config.pbtxt")

    def peer() -> None:
        version = next(versions)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda file: store.write(f"raw/{version}/{file.name}", file), built.iterdir()))

    compare(f"publish 32 files, {mib} MiB, with manifest; peer: the bare uploads", "MiB/s", mib, ours, peer)


def compare(what: str, unit: str, amount: float, ours: Callable[[], object], peer: Callable[[], object]) -> None:
    times: dict[Callable[[], object], list[float]] = {ours: [], peer: []}
    for number in range(ROUNDS):
        for call in (ours, peer) if number % 2 else (peer, ours):
            began = time.perf_counter()
            call()
            times[call].append(time.perf_counter() - began)
    mine, theirs = (amount / statistics.median(times[call]) for call in (ours, peer))
    print(f"{what}: {mine:.0f} {unit}, peer {theirs:.0f} {unit}, ratio {mine / theirs:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 128)
