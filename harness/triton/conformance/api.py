"""Triton's own HTTP API, called as somebody without this package would call it."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx

from harness.errors import Unreachable
from harness.triton.access import Access
from harness.triton.tls import http_context
from harness.triton.transport import one_line

CALL_TIMEOUT_S = 150.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request got: HTTP status, the version that answered (0: none), its incarnation, the error's text."""

    status: int
    version: int = 0
    incarnation: int = 0
    error: str = ""


class Api:
    """Raises Unreachable where nobody answers; every answer with a status is data."""

    def __init__(self, url: str, metrics_url: str | None = None, access: Access | None = None) -> None:
        self.url, self.metrics_url, self._access = url.rstrip("/"), metrics_url, access or Access()
        self._client = self.client()

    def client(self, *, keep: bool = False) -> httpx.Client:
        """A client of its own, for a thread of its own. Without `keep` every request is a new connection.

        A load over HTTP stalls the connections that its thread of the server holds (see the row
        load-over-http-stalls-connections); a new one goes to a thread that is free.
        """
        return httpx.Client(
            base_url=f"{self.url}/v2",
            headers=dict(self._access.headers),
            timeout=CALL_TIMEOUT_S,
            trust_env=False,
            verify=http_context(self._access) if self.url.startswith("https") else False,
            limits=httpx.Limits() if keep else httpx.Limits(max_keepalive_connections=0),
        )

    def close(self) -> None:
        self._client.close()

    def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        try:
            return self._client.request(method, path, json=body)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unreachable(f"{self.url}: {one_line(str(error)) or type(error).__name__}") from error

    def load(self, model: str, parameters: Mapping[str, Any] | None = None) -> httpx.Response:
        body = {} if parameters is None else {"parameters": parameters}
        return self.call("POST", f"/repository/models/{model}/load", body)

    def load_config(self, model: str, config: Mapping[str, Any]) -> httpx.Response:
        return self.load(model, {"config": json.dumps(config)})

    def unload(self, model: str, parameters: Mapping[str, Any] | None = None) -> httpx.Response:
        body = {} if parameters is None else {"parameters": parameters}
        return self.call("POST", f"/repository/models/{model}/unload", body)

    def index(self, model: str | None = None) -> list[dict[str, str]]:
        rows = self.call("POST", "/repository/index", {}).json()
        return [row for row in rows if model is None or row["name"] == model]

    def states(self, model: str) -> dict[str, str]:
        """By version: its state, and after a blank the reason if there is one. JSON has texts for keys."""
        rows = [row for row in self.index(model) if row.get("version")]
        return {row["version"]: f"{row.get('state', '')} {row.get('reason', '')}".strip() for row in rows}

    def ready(self, model: str) -> list[int]:
        return sorted(int(version) for version, state in self.states(model).items() if state == "READY")

    def config(self, model: str) -> dict[str, Any]:
        config: dict[str, Any] = self.call("GET", f"/models/{model}/config").json()
        return config

    def server_ready(self) -> int:
        """The status of the server's own readiness."""
        return self.call("GET", "/health/ready").status_code

    def version_ready(self, model: str, version: int) -> int:
        return self.call("GET", f"/models/{model}/versions/{version}/ready").status_code

    def statistics(self, model: str) -> dict[str, dict[str, int]]:
        """By version: how many requests succeeded and failed, from the statistics extension."""
        rows = self.call("GET", f"/models/{model}/stats").json().get("model_stats", [])
        return {
            row["version"]: {key: row["inference_stats"][key].get("count", 0) for key in ("success", "fail")}
            for row in rows
        }

    def ask(self, model: str, version: int | None = None, seconds: float = 0.0) -> Answer:
        return ask(self._client, model, version, seconds)

    def metrics(self) -> httpx.Response:
        assert self.metrics_url is not None
        return self._elsewhere("GET", self.metrics_url)

    def at_metrics_port(self, method: str, path: str) -> int:
        """The status of a call sent to the port of the metrics page."""
        assert self.metrics_url is not None
        return self._elsewhere(method, str(httpx.URL(self.metrics_url).copy_with(path=path))).status_code

    def _elsewhere(self, method: str, url: str) -> httpx.Response:
        try:
            return httpx.request(method, url, timeout=CALL_TIMEOUT_S, trust_env=False)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unreachable(f"{url}: {one_line(str(error)) or type(error).__name__}") from error

    def counter(self, name: str, model: str, version: int) -> int | None:
        """The sum of a counter's lines for one version; None where there is no such line."""
        wanted = (f'model="{model}"', f'version="{version}"')
        lines = [line for line in self.metrics().text.splitlines() if line.startswith(name + "{")]
        values = [int(float(line.rsplit(" ", 1)[1])) for line in lines if all(label in line for label in wanted)]
        return sum(values) if values else None


def ask(client: httpx.Client, model: str, version: int | None = None, seconds: float = 0.0) -> Answer:
    """One inference request. A broken connection is an answer of status 0."""
    place = f"/models/{model}" if version is None else f"/models/{model}/versions/{version}"
    body = {"inputs": [{"name": "SECONDS", "shape": [1], "datatype": "FP32", "data": [seconds]}]}
    try:
        response = client.post(f"{place}/infer", json=body)
        said = response.json()
    except (httpx.TransportError, ValueError) as error:
        return Answer(0, error=one_line(str(error)) or type(error).__name__)
    if response.status_code != httpx.codes.OK:
        return Answer(response.status_code, error=str(said.get("error", "")))
    served, incarnation = (int(number) for number in said["outputs"][0]["data"])
    return Answer(200, served, incarnation)


@dataclass
class Traffic:
    """Asks one version again and again from a thread of its own, as `with Traffic(...) as traffic`, and counts.

    The block begins after ten answers, and `more` waits for further ones, so that nothing is measured without any.
    """

    client: httpx.Client
    model: str
    version: int
    answered: int = 0
    failed: list[str] = field(default_factory=list)

    def __enter__(self) -> Traffic:
        self._stop = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.more()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        self._thread.join(CALL_TIMEOUT_S)
        self.client.close()

    def more(self, answers: int = 10) -> None:
        with self._news:
            goal = self.answered + len(self.failed) + answers
            if not self._news.wait_for(lambda: self.answered + len(self.failed) >= goal, CALL_TIMEOUT_S):
                raise Unreachable(f"{self.model}: version {self.version} does not answer any more")

    def _run(self) -> None:
        while not self._stop:
            answer = ask(self.client, self.model, self.version)
            with self._news:
                if answer.status == httpx.codes.OK and answer.version == self.version:
                    self.answered += 1
                else:
                    self.failed.append(f"{answer.status} {answer.error}".strip())
                self._news.notify_all()
