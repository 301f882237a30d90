"""S3 servers for the tests of stores: moto where something breaks, SeaweedFS (tests/conftest.py) where it must work."""

from __future__ import annotations

import itertools
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from harness.embedded import EmbeddedS3
from harness.store.s3 import S3Store
from tests.store.faults import Proxy
from tests.store.folders import CONFIG, noise, put_own, put_version

SECRET = "mine-alone-0123456789abcdef"
_NUMBERS = itertools.count()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with llm (versions 1 and 2, a config and a tokenizer) and an ensemble without files."""
    root = tmp_path / "store"
    put_version(root, "llm", 1, {"model.plan": noise(3_000_000, 1), "sub/vocab.json": b"{}"})
    put_version(root, "llm", 2, {"model.plan": noise(3_000_000, 2), "sub/vocab.json": b"{}", "empty": b""})
    put_own(root, "llm", {"config.pbtxt": CONFIG, "tokenizer/merges.txt": b"a b"})
    put_version(root, "ensemble", 1, {})
    return root


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def no_cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials that moto takes, nothing of the user's, and nobody asked beyond this machine."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def proxy(moto_url: str) -> Iterator[Proxy]:
    with Proxy(moto_url) as running:
        yield running


@pytest.fixture
def open_s3(no_cloud: None) -> Iterator[Callable[..., S3Store]]:
    """S3Store with two quick attempts; closed after the test."""
    opened: list[S3Store] = []

    def open_one(url: str, endpoint: str, attempts: int = 2, timeout_s: float = 60.0) -> S3Store:
        opened.append(S3Store(url, endpoint=endpoint, attempts=attempts, timeout_s=timeout_s, part_bytes=5 << 20))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def moto_store(moto_url: str, proxy: Proxy, open_s3: Callable[..., S3Store]) -> S3Store:
    """A store in a new bucket of moto, behind the proxy."""
    bucket = f"bucket-{next(_NUMBERS)}"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        urllib.request.Request(f"{moto_url}/{bucket}", method="PUT"), timeout=60
    ) as made:  # a client of boto3 takes longer than most of the tests
        assert made.status == 200
    return open_s3(f"s3://{bucket}/pre", proxy.url)


@pytest.fixture
def seaweed_store(s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch, no_cloud: None) -> Iterator[S3Store]:
    """A store below a prefix of its own on the real server."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    store = S3Store(f"s3://models/test-{next(_NUMBERS)}", part_bytes=5 << 20)
    yield store
    store.close()
