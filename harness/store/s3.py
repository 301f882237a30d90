"""S3 and what speaks its protocol, through boto3."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial as bound
from pathlib import Path
from typing import Any

import boto3.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.parsers import ResponseParserError
from s3transfer.utils import ReadFileChunk, signal_not_transferring, signal_transferring

from harness.errors import StoreError, UsageError
from harness.store.body import CHUNK_BYTES, counted
from harness.store.port import Listing, StoredFile, unwatched
from harness.store.together import together

MOST_PARTS = 10_000  # S3's own limit
SHA256 = "triton-canary-sha256"  # the metadata that keeps a file's hash; the ETag of a multipart object is no hash

_SAYS = {
    "AccessDenied": "access is denied",
    "ExpiredToken": "the credentials have expired",
    "ExpiredTokenException": "the credentials have expired",
    "InvalidAccessKeyId": "the credentials are not accepted",
    "InvalidToken": "the credentials are not accepted",
    "SignatureDoesNotMatch": "the credentials are not accepted",
    "NoSuchBucket": "there is no such bucket",
    "NoSuchKey": "it is not in the store",
    "PreconditionFailed": "it changed in the store since it was listed",
    "InvalidRange": "it changed in the store since it was listed",
}
_SAYS_STATUS = {401: "AccessDenied", 403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed"}


class S3Store:
    """`s3://BUCKET/PREFIX`; credentials from boto3's own chain.

    `endpoint`, or AWS_ENDPOINT_URL_S3, or AWS_ENDPOINT_URL, names another server than Amazon's: its buckets are
    addressed by path. A request waits `timeout_s` at most for the next bytes and is tried `attempts` times;
    files from `part_bytes` on go up in parts, `workers` at once. May be used by several threads.
    """

    def __init__(
        self,
        url: str,
        *,
        endpoint: str | None = None,
        timeout_s: float = 60.0,
        attempts: int = 4,
        part_bytes: int = 16 << 20,
        workers: int = 4,
    ) -> None:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not url.startswith("s3://") or not bucket or "@" in bucket:
            raise UsageError("an S3 store is s3://BUCKET or s3://BUCKET/PREFIX; credentials come from the environment")
        self._endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
        if "@" in (self._endpoint or ""):
            raise UsageError(
                "an S3 endpoint is http(s)://HOST:PORT; credentials come from AWS_ACCESS_KEY_ID or a profile"
            )
        self._bucket, self._root = bucket, f"{prefix.strip('/')}/".lstrip("/")
        self.url = f"s3://{bucket}/{self._root}".rstrip("/")
        self._part_bytes, self._workers = part_bytes, workers
        config = Config(
            connect_timeout=min(timeout_s, 10.0),
            read_timeout=timeout_s,
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=4 * workers,
            s3={"addressing_style": "path" if self._endpoint else "auto"},
            # the SHA-256 of the manifest is what counts, and some servers refuse the CRC headers that are the default
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            self._client = boto3.session.Session().client("s3", endpoint_url=self._endpoint, config=config)
        except (BotoCoreError, ValueError) as error:  # a profile that is not there, an endpoint that is no URL
            raise UsageError(f"{self.url}: {error}") from error
        # what is read to sign a request is not sent yet
        self._client.meta.events.register_first("request-created.s3", signal_not_transferring)
        self._client.meta.events.register_last("request-created.s3", signal_transferring)

    def list(self, prefix: str = "") -> Listing:
        files: dict[str, StoredFile] = {}
        asked: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._root + prefix}
        while True:
            with self._failing("listing", prefix):
                page = self._client.list_objects_v2(**asked)
            if "IsTruncated" not in page:  # well-formed, but of something else: it would look like an empty listing
                raise StoreError(f"listing {self._place(prefix)}: what came is no answer of S3")
            entries = page.get("Contents", [])
            for entry in entries:
                if not entry["Key"].endswith("/"):  # the marker of a folder, which some tools leave
                    key = entry["Key"].removeprefix(self._root)
                    files[key] = StoredFile(key, entry["Size"], entry.get("ETag", "").strip('"'))
            if page.get("KeyCount", 0) > len(entries):
                return Listing(files, complete=False)
            if not page["IsTruncated"]:
                return Listing(files)
            token = page.get("NextContinuationToken")
            if not token or token == asked.get("ContinuationToken"):
                return Listing(files, complete=False)
            asked["ContinuationToken"] = token

    def read(self, file: StoredFile, offset: int = 0) -> Iterator[bytes]:
        if offset == file.size > 0:
            return
        asked = {"IfMatch": f'"{file.etag}"'} if file.etag else {}
        if offset:
            asked["Range"] = f"bytes={offset}-"
        with self._failing("reading", file.key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._root + file.key, **asked)
            with contextlib.closing(answer["Body"]) as body:
                began = answer.get("ContentRange", "bytes 0-").removeprefix("bytes ").partition("-")[0]
                if began != str(offset) or answer["ContentLength"] != file.size - offset:
                    raise StoreError(
                        f"reading {self._place(file.key)}: {answer['ContentLength']} bytes from {began} on were sent, "
                        f"not the {file.size - offset} from {offset} on that the listing promised"
                    )
                yield from counted(body.iter_chunks(CHUNK_BYTES), file.size - offset, self._place(file.key))

    def sha256(self, file: StoredFile) -> str:
        with self._failing("looking at", file.key):
            head = self._client.head_object(Bucket=self._bucket, Key=self._root + file.key)
        same = head["ETag"].strip('"') == file.etag and head["ContentLength"] == file.size
        return str(head["Metadata"].get(SHA256, "")) if same else ""

    def write(self, key: str, source: Path, sha256: str = "", sent: Callable[[int], None] = unwatched) -> None:
        place = {"Bucket": self._bucket, "Key": self._root + key}
        kept = {"Metadata": {SHA256: sha256}} if sha256 else {}
        with self._failing("writing", key):
            size = source.stat().st_size
            if size < self._part_bytes:
                with _piece(source, 0, size, sent) as body:
                    self._client.put_object(**place, **kept, Body=body)
            else:
                self._write_parts(place, kept, source, size, sent)

    def _write_parts(
        self, place: dict[str, Any], kept: dict[str, Any], source: Path, size: int, sent: Callable[[int], None]
    ) -> None:
        """boto3's own upload would do, but for its threads: they hold up whoever wants to leave."""
        upload = place | {"UploadId": self._client.create_multipart_upload(**place, **kept)["UploadId"]}
        length = max(self._part_bytes, -(-size // MOST_PARTS))

        def write_part(number: int) -> dict[str, Any]:
            with _piece(source, (number - 1) * length, length, sent) as body:
                answer = self._client.upload_part(**upload, PartNumber=number, Body=body)
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            numbers = range(1, -(-size // length) + 1)
            parts = together([bound(write_part, number) for number in numbers], self._workers)
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:
            with contextlib.suppress(ClientError, BotoCoreError, ResponseParserError):
                self._client.abort_multipart_upload(**upload)
            raise

    def remove(self, key: str) -> None:
        """Also where it is not there. StoreError where the store says no."""
        with self._failing("removing", key):
            self._client.delete_object(Bucket=self._bucket, Key=self._root + key)

    def close(self) -> None:
        self._client.close()

    def _place(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._root}{key}"

    @contextlib.contextmanager
    def _failing(self, doing: str, key: str) -> Iterator[None]:
        """boto3's errors as one StoreError that names bucket and key."""
        try:
            yield
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            raise StoreError(f"{doing} {self._place(key)}: {self._reason(error)}") from error
        except OSError as error:
            why = f"{error.strerror}: {error.filename}" if error.filename else str(error)
            raise StoreError(f"{doing} {self._place(key)}: {why}") from error

    def _reason(self, error: BaseException) -> str:
        match error:
            case ClientError():
                return _refusal(error.response)
            case NoCredentialsError() | PartialCredentialsError():
                return "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            case EndpointConnectionError() | ConnectTimeoutError():
                return f"nobody answers at {self._client.meta.endpoint_url}"
            case ProxyConnectionError():  # its own words may hold the proxy's password
                return "nobody answers at the proxy that HTTP_PROXY or HTTPS_PROXY names"
            case ParamValidationError():
                return "S3 takes no such name"
            case ReadTimeoutError():
                return "nothing came in time"
            case IncompleteReadError() | ResponseStreamingError():
                return "the body broke off"
            case ResponseParserError():  # its own words hold the whole body
                return "what came is no answer of S3"
        return " ".join(str(error).split())


def _piece(source: Path, start: int, length: int, sent: Callable[[int], None]) -> ReadFileChunk:
    return ReadFileChunk.from_filename(str(source), start, length, [lambda bytes_transferred: sent(bytes_transferred)])


def _refusal(response: dict[str, Any]) -> str:
    """The server's no in one line; no header and no signature in it."""
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = response.get("Error", {})
    code = str(said.get("Code", ""))
    if code not in _SAYS and status in _SAYS_STATUS:
        code = _SAYS_STATUS[status]
    words = _SAYS.get(code) or " ".join(str(said.get("Message", "")).split()) or "the store failed"
    name = "" if code == str(status) else f" {code}"
    tries = int(response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) + 1
    return f"{words} ({status}{name}{f', {tries} attempts' if tries > 1 else ''})"
