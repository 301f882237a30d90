"""A store from its URL."""

from __future__ import annotations

from harness.errors import UsageError
from harness.store.artifactory import ArtifactoryStore
from harness.store.folder import FolderStore
from harness.store.port import Store


def open_store(url: str, *, endpoint: str | None = None, timeout_s: float = 60.0, attempts: int = 4) -> Store:
    """`s3://BUCKET/PREFIX`, `artifactory+https://HOST/artifactory/REPOSITORY/PATH`, `file:///path` or a path.

    `endpoint` is another S3 server than Amazon's. A request waits `timeout_s` at most for the next bytes; one that
    failed in passing is tried `attempts` times. Credentials come from the environment only. UsageError for a URL
    that is none of these, and where boto3 is missing; nothing is asked yet.
    """
    scheme = url.partition("://")[0] if "://" in url else "file"
    if endpoint and scheme != "s3":
        raise UsageError(f"--endpoint is for s3:// stores, not for {scheme}://")
    match scheme:
        case "s3":
            try:
                from harness.store.s3 import S3Store  # here, because boto3 is an extra, and slow to import
            except ModuleNotFoundError as error:
                raise UsageError("s3:// needs boto3: pip install 'triton-canary[s3]'") from error
            return S3Store(url, endpoint=endpoint, timeout_s=timeout_s, attempts=attempts)
        case "artifactory+https" | "artifactory+http":
            return ArtifactoryStore(url, timeout_s=timeout_s, attempts=attempts)
        case "file":
            return FolderStore(url)
    raise UsageError(f"{scheme}:// is no model store: s3://, artifactory+https://, file:// or a path is")
