"""JFrog Artifactory, through its REST interface: AQL for listings, the storage API for one file."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

from harness.errors import StoreError, UsageError
from harness.store.body import CHUNK_BYTES, counted
from harness.store.manifest import sha256_of
from harness.store.port import Listing, StoredFile, unwatched

FORM = "an Artifactory store is artifactory+https://HOST/artifactory/REPOSITORY or .../REPOSITORY/PATH"
_SAYS = {
    400: "the store did not understand the request",
    401: "the credentials are not accepted: set ARTIFACTORY_TOKEN, or ARTIFACTORY_USER and ARTIFACTORY_PASSWORD",
    403: "access is denied",
    404: "it is not in the store",
    409: "the store refused the file: its checksum differs, or the repository takes no such file",
    416: "it changed in the store since it was listed",
}
_PASSING = (408, 429, 502, 503, 504)  # 429: Artifactory answers few AQL queries at a time


class ArtifactoryStore:
    """`artifactory+https://HOST/artifactory/REPOSITORY/PATH` (or `artifactory+http://`).

    ARTIFACTORY_TOKEN, or ARTIFACTORY_USER and ARTIFACTORY_PASSWORD, or nobody in particular. Proxies and certificates
    from the environment: SSL_CERT_FILE and SSL_CERT_DIR, or REQUESTS_CA_BUNDLE. A request waits `timeout_s` at most
    for the next bytes; one that failed in passing is tried `attempts` times. May be used by several threads.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 60.0, attempts: int = 4, pause: Callable[[float], None] = time.sleep
    ) -> None:
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise UsageError(f"{FORM} ({error})") from error
        before, found, after = parts.path.partition("/artifactory/")
        repository, _, path = unquote(after).partition("/")
        schemes = ("artifactory+https", "artifactory+http")
        if parts.scheme not in schemes or not found or not repository or not parts.hostname:
            raise UsageError(FORM)
        if parts.username is not None or parts.query or parts.fragment:
            raise UsageError(f"{FORM}; credentials come from the environment")
        self._repository, self._root = repository, f"{path.strip('/')}/".lstrip("/")
        base = f"{parts.scheme.removeprefix('artifactory+')}://{parts.netloc}{before}/artifactory"
        self.url = f"artifactory+{base}/{repository}/{self._root}".rstrip("/")
        self._attempts, self._pause = attempts, pause
        try:
            self._client = httpx.Client(
                base_url=base,
                timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0)),
                headers={"Accept-Encoding": "identity", **_authorization()},
                follow_redirects=True,  # a download may be sent on to a storage; httpx leaves credentials behind then
                verify=_certificates(),
            )
        except OSError as error:
            raise UsageError(f"SSL_CERT_FILE or SSL_CERT_DIR: {error.strerror or error}") from error
        except (httpx.InvalidURL, ValueError) as error:  # a port, or a proxy of the environment
            raise UsageError(f"{self.url}: {error}") from error

    def list(self, prefix: str = "") -> Listing:
        found: dict[str, StoredFile] = {}
        while True:
            query = self._query(prefix, len(found))
            page, trimmed = self._page(prefix, query)
            new = page.keys() - found.keys()
            found |= page
            if not trimmed or not new:  # what was left out need not come with an offset either
                break
        if not found:  # AQL answers alike for a folder that is empty and a repository that is not there
            self._json("looking for the repository of", "", "GET", f"/api/storage/{quote(self._repository)}")
        wanted = self._root + prefix
        files = {path.removeprefix(self._root): file for path, file in found.items() if path.startswith(wanted)}
        return Listing(files, complete=not trimmed)

    def read(self, file: StoredFile, offset: int = 0) -> Iterator[bytes]:
        if offset == file.size > 0:
            return
        place = self._place(file.key)
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        answer = self._ask("reading", file.key, "GET", self._path("/", file.key), headers=headers, stream=True)
        with contextlib.closing(answer):
            for header, known in (("X-Checksum-Sha1", file.etag), ("X-Checksum-Sha256", file.sha256)):
                if known and answer.headers.get(header, known) != known:
                    raise StoreError(f"reading {place}: {_SAYS[416]}")
            began = answer.headers.get("Content-Range", "bytes 0-").removeprefix("bytes ").partition("-")[0]
            skip = offset if answer.status_code == 200 else 0  # something on the way does not know of ranges
            wanted = str(file.size - offset + skip)
            if began != str(offset - skip) or answer.headers.get("Content-Length", wanted) != wanted:
                raise StoreError(f"reading {place}: not the {wanted} bytes from {offset - skip} on that were listed")
            try:
                yield from counted(answer.iter_raw(CHUNK_BYTES), int(wanted), f"reading {place}", skip)
            except httpx.RequestError as error:
                raise StoreError(f"reading {place}: the body broke off ({type(error).__name__})") from error

    def sha256(self, file: StoredFile) -> str:
        if file.sha256:
            return file.sha256
        info = self._json("looking at", file.key, "GET", self._path("/api/storage/", file.key))
        sums = info.get("checksums")
        if not isinstance(sums, dict) or sums.get("sha1") != file.etag:
            return ""
        return str(sums.get("sha256", ""))

    def write(self, key: str, source: Path, sha256: str = "", sent: Callable[[int], None] = unwatched) -> None:
        try:
            headers = {"X-Checksum-Sha256": sha256 or sha256_of(source)}  # a body that has another is refused
            headers["Content-Length"] = str(source.stat().st_size)
            answer = self._ask("writing", key, "PUT", self._path("/", key), body=_Body(source, sent), headers=headers)
        except OSError as error:
            raise StoreError(f"writing {self._place(key)}: {error.strerror}: {source}") from error
        if answer.status_code != 201:
            raise StoreError(f"writing {self._place(key)}: {answer.status_code} is not what Artifactory answers")

    def close(self) -> None:
        self._client.close()

    # ------------------------------------------------------------ listing

    def _query(self, prefix: str, offset: int) -> str:
        """AQL for the files in the folder that `prefix` lies in, and below it.

        A wildcard in that folder's name finds too much, never too little; what is too much is dropped afterwards.
        """
        folder = (self._root + prefix).rpartition("/")[0]
        where: dict[str, Any] = {"repo": self._repository, "type": "file"}
        if folder:
            where["$or"] = [{"path": folder}, {"path": {"$match": f"{folder}/*"}}]
        fields = '"repo","path","name","size","actual_sha1","sha256"'  # the first three are a must for non-admins
        paging = f".offset({offset})" if offset else ""
        return f'items.find({json.dumps(where)}).include({fields}).sort({{"$asc":["path","name"]}}){paging}'

    def _page(self, prefix: str, query: str) -> tuple[dict[str, StoredFile], bool]:
        """Files by their path in the repository, and whether the server says that it left some out."""
        reply = self._json("listing", prefix, "POST", "/api/search/aql", query)
        files = {}
        try:
            for item in reply["results"]:
                path = item["name"] if item["path"] == "." else f"{item['path']}/{item['name']}"
                sums = item.get("actual_sha1") or "", item.get("sha256") or ""
                files[path] = StoredFile(path.removeprefix(self._root), int(item["size"]), *sums)
            return files, bool(reply["range"].get("notification"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"listing {self._place(prefix)}: the reply is not what AQL answers") from error

    # ------------------------------------------------------------ asking

    def _json(self, doing: str, key: str, method: str, path: str, body: str = "") -> dict[str, Any]:
        answer = self._ask(doing, key, method, path, body=body, headers={"Content-Type": "text/plain"} if body else {})
        try:
            reply = answer.json()
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            raise StoreError(f"{doing} {self._place(key)}: the reply is not JSON, so this is not an Artifactory")
        return reply

    def _ask(
        self,
        doing: str,
        key: str,
        method: str,
        path: str,
        *,
        body: Iterable[bytes] | str = "",
        headers: Mapping[str, str],
        stream: bool = False,
    ) -> httpx.Response:
        """One answer that is no refusal. Sent again where that may help; every request here may be."""
        place = f"{doing} {self._place(key)}"
        for attempt in range(1, self._attempts + 1):
            if attempt > 1:
                self._pause(0.5 * 2 ** (attempt - 2))
            request = self._client.build_request(method, path, content=body, headers=headers)
            try:
                answer = self._client.send(request, stream=stream)
            except httpx.RequestError as error:
                if attempt == self._attempts:
                    raise StoreError(f"{place}: {_unanswered(error, self._client.base_url)}") from error
                continue
            if answer.status_code not in _PASSING:
                break
            answer.close()
        if answer.is_success:
            return answer
        answer.close()
        words = _SAYS.get(answer.status_code, "the store failed")
        raise StoreError(f"{place}: {words} ({answer.status_code}{f', {attempt} attempts' if attempt > 1 else ''})")

    def _path(self, before: str, key: str) -> str:
        return before + quote(f"{self._repository}/{self._root}{key}".rstrip("/"))

    def _place(self, key: str) -> str:
        return f"{self.url}/{key}".rstrip("/")


class _Body:
    """A file's bytes, from the start each time. `sent` is told of them, and takes back what goes again."""

    def __init__(self, file: Path, sent: Callable[[int], None]) -> None:
        self._file, self._sent, self._gone = file, sent, 0

    def __iter__(self) -> Iterator[bytes]:
        if self._gone:
            self._sent(-self._gone)
            self._gone = 0
        with self._file.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
                self._gone += len(chunk)
                self._sent(len(chunk))


def _unanswered(error: httpx.RequestError, base: httpx.URL) -> str:
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return f"nobody answers at {base} ({error})"
        case httpx.TimeoutException():
            return "no answer in time"
    return f"the connection broke ({type(error).__name__})"


def _authorization() -> dict[str, str]:
    token, user = os.environ.get("ARTIFACTORY_TOKEN", ""), os.environ.get("ARTIFACTORY_USER", "")
    password = os.environ.get("ARTIFACTORY_PASSWORD", "")
    if not (token.isascii() and token.isprintable()):  # an error of httpx would show it
        raise UsageError("ARTIFACTORY_TOKEN holds a character that no token has, a line break perhaps")
    if token:
        return {"Authorization": f"Bearer {token}"}
    if user:
        return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}
    return {}


def _certificates() -> ssl.SSLContext | bool:
    """httpx looks at SSL_CERT_FILE and SSL_CERT_DIR itself; what boto3 and requests look at holds here too."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    if not bundle or os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        return True
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise UsageError(f"REQUESTS_CA_BUNDLE: {bundle} holds no certificates ({error})") from error
