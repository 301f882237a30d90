"""Steady traffic through an ingress that names no version, and who answered it.

    with Traffic("http://127.0.0.1:8000", rate=200) as traffic:
        ...
        traffic.wait_for(400)
    assert traffic.failed() == []
    assert traffic.share("served_by")["candidate"] == 0.5

An open loop: requests are due at even times, or at random ones (`poisson`, a seed), whatever the answers take, as far
as `in_flight` of them suffice.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import grpc
from tritonclient.grpc import service_pb2

WITHIN_S = 120.0
SERVED_BY = "x-served-by"


@dataclass(frozen=True, slots=True)
class Answer:
    """`status`: ok, else what went wrong (http 503, UNAVAILABLE, ConnectionResetError: ...). Times: monotonic seconds.

    `version`: what the response said; `served_by`: what the ingress said; empty where they did not.
    """

    number: int
    sent: float
    done: float
    status: str
    version: str = ""
    served_by: str = ""


class Traffic:
    """Begins when entered, ends when left: then every request that was begun has been answered."""

    def __init__(
        self,
        url: str,
        *,
        rate: float = 200.0,
        model: str = "tiny",
        in_flight: int = 16,
        headers: Mapping[str, str] | None = None,
        version: int | None = None,
        poisson: int | None = None,
    ) -> None:
        """`url`: http://host:port or grpc://host:port; `version`: named by the requests, as some clients do."""
        scheme, _, self._place = url.partition("://")
        self._kind: Literal["http", "grpc"] = "grpc" if scheme == "grpc" else "http"
        self._model, self._rate, self._headers = model, rate, dict(headers or {})
        self._version = str(version) if version is not None else ""
        self._random = None if poisson is None else random.Random(poisson)
        self._lock, self._over, self._next, self._due = threading.Lock(), threading.Event(), 0, 0.0
        self._answers: list[Answer] = []
        self._grown = threading.Condition()
        self._channel: Any = None
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(in_flight)]

    def __enter__(self) -> Traffic:
        if self._kind == "grpc":
            self._channel = grpc.insecure_channel(self._place)
            self._call = self._channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        self._begin = time.monotonic() + 0.05
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(WITHIN_S)
        if self._channel is not None:
            self._channel.close()

    # ------------------------------------------------------------ what came of it

    def answers(self, since: float = 0.0, until: float = float("inf")) -> list[Answer]:
        """Of the requests that were sent from `since` to before `until` (time.monotonic()), in the order of sending."""
        with self._grown:
            found = [answer for answer in self._answers if since <= answer.sent < until]
        return sorted(found, key=lambda answer: answer.sent)

    def failed(self, since: float = 0.0) -> list[Answer]:
        return [answer for answer in self.answers(since) if answer.status != "ok"]

    def count(self, by: Literal["status", "version", "served_by"], since: float = 0.0) -> Counter[str]:
        return Counter(getattr(answer, by) for answer in self.answers(since))

    def share(self, by: Literal["status", "version", "served_by"], since: float = 0.0) -> dict[str, float]:
        counted = self.count(by, since)
        return {key: number / counted.total() for key, number in counted.items()}

    def wait_for(self, more: int, within_s: float = WITHIN_S) -> float:
        """Waits until `more` requests that were sent from now on are answered; the moment of "now"."""
        since = time.monotonic()
        self.wait_until(lambda: len(self.answers(since)) >= more, within_s)
        return since

    def wait_until(self, there: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        """Asks again after each answer."""
        with self._grown:
            assert self._grown.wait_for(there, within_s), f"not within {within_s:.0f} s: {self.count('status')}"

    # ------------------------------------------------------------ sending

    def _work(self) -> None:
        connection = http.client.HTTPConnection(self._place, timeout=WITHIN_S)
        while not self._over.is_set():
            with self._lock:
                number, due = self._next, self._begin + self._due
                self._next += 1
                self._due += self._random.expovariate(self._rate) if self._random else 1 / self._rate
            if self._over.wait(due - time.monotonic()):
                break
            sent = time.monotonic()
            try:
                said = self._infer(number) if self._kind == "grpc" else self._post(connection, number)
            except grpc.RpcError as error:
                # a failure may come as trailers only
                told = {**dict(error.initial_metadata() or {}), **dict(error.trailing_metadata() or {})}
                said = f"{error.code().name}: {error.details()}", "", told.get(SERVED_BY, "")
            except (OSError, http.client.HTTPException, ValueError) as error:
                connection.close()
                said = f"{type(error).__name__}: {error}", "", ""
            answer = Answer(number, sent, time.monotonic(), *said)
            with self._grown:
                self._answers.append(answer)
                self._grown.notify_all()
        connection.close()

    def _post(self, connection: http.client.HTTPConnection, number: int) -> tuple[str, str, str]:
        version = f"/versions/{self._version}" if self._version else ""
        tensor = {"name": "INPUT", "datatype": "FP32", "shape": [16], "data": [float(number)] * 16}
        connection.request(
            "POST",
            f"/v2/models/{self._model}{version}/infer",
            json.dumps({"inputs": [tensor]}),
            {"content-type": "application/json", **self._headers},
        )
        answer = connection.getresponse()
        body, served_by = answer.read(), answer.getheader(SERVED_BY, "")
        if answer.status != 200:
            return f"http {answer.status}", "", served_by
        return "ok", str(json.loads(body)["model_version"]), served_by

    def _infer(self, number: int) -> tuple[str, str, str]:
        request = service_pb2.ModelInferRequest(model_name=self._model, model_version=self._version)
        tensor = request.inputs.add(name="INPUT", datatype="FP32", shape=[16])
        tensor.contents.fp32_contents.extend([float(number)] * 16)
        raw, call = self._call.with_call(
            request.SerializeToString(), metadata=list(self._headers.items()), timeout=WITHIN_S
        )
        answer = service_pb2.ModelInferResponse.FromString(raw)
        return "ok", answer.model_version, dict(call.initial_metadata()).get(SERVED_BY, "")
