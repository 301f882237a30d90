"""An emulator of the part of JFrog Artifactory that ArtifactoryStore uses. It is no test against the product.

Built from the samples in JFrog's public REST documentation ("AQL Execution", "AQL Syntax", "File Info", "Retrieve
Artifact", "Deploy Artifact"): the form of an AQL reply and of its `range`, with `notification` where results were
trimmed and `total` counting the rows of that reply; the storage API's file and folder info, with numbers as text;
checksum headers; `errors` as JSON. Where the documentation is silent (409 for a checksum that differs, ranges, ETag)
it does what its author believes the product does.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import threading
from base64 import b64encode
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

TRIMMED = "AQL query reached the search hard limit, results are trimmed."
_QUERY = re.compile(
    r"items\.find\((?P<where>.*)\)\.include\((?P<fields>.*?)\)\.sort\((?P<sort>.*?)\)(?:\.offset\((?P<offset>\d+)\))?"
)


@dataclass
class Item:
    path: str
    data: bytes

    @property
    def sha1(self) -> str:
        return hashlib.sha1(self.data).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


class ArtifactoryEmulator:
    """One repository, `models`, whose items are `items` by path.

    trim          most rows that one AQL reply holds; `paging` False: whatever the offset says
    token, user   who may ask: a bearer token, or user and password; "" and () for everybody
    fails         paths (of requests, as a pattern) that are answered with a status, and how often; -1 for always
    cut           bodies of these items break off after so many bytes
    no_ranges     Range is ignored, as by some proxies
    vouches       False: AQL leaves out sha256, as it does for items that were never asked about
    """

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.trim, self.paging, self.no_ranges, self.vouches = 0, True, False, True
        self.token, self.user = "", ("", "")
        self.fails: dict[str, tuple[int, int]] = {}
        self.cut: dict[str, int] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.queries: list[str] = []
        emulator = self

        class Handler(_Handler):
            it = emulator

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"artifactory+http://127.0.0.1:{self._server.server_address[1]}/artifactory/models"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def put(self, path: str, data: bytes) -> None:
        self.items[path] = Item(path, data)

    def __enter__(self) -> ArtifactoryEmulator:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def rows(self, query: str) -> dict[str, Any]:
        """The reply to an AQL query."""
        self.queries.append(query)
        parts = _QUERY.fullmatch(query)
        assert parts is not None, query
        where, fields = json.loads(parts["where"]), json.loads(f"[{parts['fields']}]")
        assert {"repo", "path", "name"} <= set(fields), "a must for users who are no administrators"
        assert set(json.loads(parts["sort"])["$asc"]) <= set(fields), "only what is included can be sorted by"
        found = [
            _row(item, self.vouches) for _, item in sorted(self.items.items()) if _matches(_row(item, True), where)
        ]
        start = int(parts["offset"] or 0) if self.paging else 0
        page = found[start:][: self.trim or None]
        about: dict[str, Any] = {"start_pos": start, "end_pos": len(page), "total": len(page)}
        if start + len(page) < len(found):
            about["notification"] = TRIMMED
        return {"results": [{name: row[name] for name in fields if name in row} for row in page], "range": about}


def _row(item: Item, vouches: bool) -> dict[str, Any]:
    folder, _, name = item.path.rpartition("/")
    row = {"repo": "models", "path": folder or ".", "name": name, "type": "file", "size": len(item.data)}
    return {**row, "actual_sha1": item.sha1, **({"sha256": item.sha256} if vouches else {})}


def _matches(row: dict[str, Any], where: dict[str, Any]) -> bool:
    for field, wanted in where.items():
        if field == "$or":
            if not any(_matches(row, one) for one in wanted):
                return False
        elif isinstance(wanted, dict):
            if not fnmatch.fnmatchcase(row[field], wanted["$match"].replace("[", "[[]")):
                return False
        elif row[field] != wanted:
            return False
    return True


class _Handler(BaseHTTPRequestHandler):
    it: ArtifactoryEmulator
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # the client has seen enough
            self.close_connection = True

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.it.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        path = unquote(urlsplit(self.path).path).removeprefix("/artifactory")
        for pattern, (status, left) in self.it.fails.items():
            if fnmatch.fnmatchcase(path, pattern) and left:
                self.it.fails[pattern] = status, left - 1
                return self._error(status, "told to fail")
        if not self._may():
            return self._error(401, "Bad Credentials")
        if path == "/api/search/aql":
            return self._json(200, self.it.rows(body.decode()))
        if path.startswith("/api/storage/"):
            return self._info(path.removeprefix("/api/storage/"))
        if not path.startswith("/models/"):
            return self._error(404, "Unable to find repository")
        key = path.removeprefix("/models/")
        return self._deploy(key, body) if self.command == "PUT" else self._retrieve(key)

    do_GET = do_PUT = do_POST = _answer  # noqa: N815

    def _may(self) -> bool:
        said = self.headers.get("Authorization", "")
        if self.it.token:
            return said == f"Bearer {self.it.token}"
        name, password = self.it.user
        return not name or said == f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"

    def _info(self, path: str) -> None:
        repository, _, key = path.partition("/")
        below = [one for one in self.it.items if one.startswith(f"{key}/".lstrip("/"))]
        item = self.it.items.get(key)
        if repository != "models" or (item is None and key and not below):
            return self._error(404, "Unable to find item")
        info: dict[str, Any] = {"repo": repository, "path": f"/{key}", "created": "2015-01-01T10:10:10.000Z"}
        if item is not None:
            sums = {"sha1": item.sha1, "sha256": item.sha256}
            return self._json(200, {**info, "size": str(len(item.data)), "checksums": sums, "originalChecksums": sums})
        return self._json(200, {**info, "children": [{"uri": f"/{one}", "folder": False} for one in below]})

    def _retrieve(self, key: str) -> None:
        item = self.it.items.get(key)
        if item is None:
            return self._error(404, "File not found.")
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and not self.it.no_ranges else 0
        if start and start >= len(item.data):
            return self._error(416, "Requested range not satisfiable")
        headers = {"ETag": item.sha1, "X-Checksum-Sha1": item.sha1, "X-Checksum-Sha256": item.sha256}
        if asked and not self.it.no_ranges:
            headers["Content-Range"] = f"bytes {start}-{len(item.data) - 1}/{len(item.data)}"
        return self._send(206 if "Content-Range" in headers else 200, item.data[start:], headers, self.it.cut.get(key))

    def _deploy(self, key: str, body: bytes) -> None:
        item = Item(key, body)
        if self.headers.get("X-Checksum-Sha256", item.sha256) != item.sha256:
            return self._error(409, "Checksum values do not match")
        self.it.items[key] = item
        return self._json(201, {"repo": "models", "path": f"/{key}", "size": str(len(body))})

    def _error(self, status: int, message: str) -> None:
        self._json(status, {"errors": [{"status": status, "message": message}]})

    def _json(self, status: int, document: object) -> None:
        self._send(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass
