"""Requests carried by the plainest means there are, so that payloads and replies are tested without the engine."""

from __future__ import annotations

import http.client
import socket
import time
from typing import Any

import grpc

from harness.load.engine.exchange import Exchange
from harness.load.outcome import Failure
from harness.load.payload import encode, generation
from harness.load.reply import Reader, Reply
from harness.load.spec import LoadSpec, host_of, wire_of
from harness.load.template import Template, request_id, unique_key
from harness.types import ArmName

WITHIN_S = 120
NONCE = "a run's own"


def exchange(
    *frames: tuple[int, bytes], failure: Failure | None = None, status: int = 0, json_size: int = -1
) -> Exchange:
    """What a sender would hand back."""
    made = Exchange(lambda _: None)
    made.frames, made.failure, made.status, made.json_size = list(frames), failure, status, json_size
    return made


def filled(template: Template, pair_id: int = 1, arm: str = "baseline") -> bytes:
    return template.fill(request_id(pair_id, arm).encode(), unique_key(NONCE, pair_id).encode())


def ask(spec: LoadSpec, arm: ArmName = "baseline", number: int = 0, *, digests: bool = False) -> Reply:
    """One request of the spec to its arm, over the wire that its address says."""
    model, of = spec.models[arm], spec.arms[arm]
    wire = wire_of(of, model)
    message = filled(encode(wire, of, model, generation(spec, arm, number)))
    answered = call(of.url, wire, message) if wire.startswith("grpc") else post(of.url, message)
    return Reader(model, wire, digests=digests, tokens=True).read(answered)


def post(url: str, message: bytes) -> Exchange:
    """Sends a whole HTTP/1.1 request and gives the pieces of the answer's body as they come."""
    host, _, port = host_of(url).rpartition(":")
    made = exchange()
    with socket.create_connection((host, int(port)), WITHIN_S) as connection:
        connection.sendall(message)
        answer = http.client.HTTPResponse(connection, method="POST")
        answer.begin()
        made.status = answer.status
        made.json_size = int(answer.getheader("Inference-Header-Content-Length", "-1"))
        while piece := answer.read1():
            made.frames.append((time.monotonic_ns(), piece))
        answer.close()
    return made


def call(url: str, wire: str, message: bytes) -> Exchange:
    """Sends a ModelInferRequest as it is; a stream is one request and ends with its final response."""
    made = exchange()
    with grpc.insecure_channel(host_of(url)) as channel:
        service = "/inference.GRPCInferenceService/"
        try:
            if wire == "grpc":
                answers: Any = [channel.unary_unary(service + "ModelInfer")(message, timeout=WITHIN_S)]
            else:
                answers = channel.stream_stream(service + "ModelStreamInfer")(iter([message]), timeout=WITHIN_S)
            made.frames += [(time.monotonic_ns(), raw) for raw in answers]
        except grpc.RpcError as error:
            made.failure = Failure("error", "grpc", error.code().name, error.details())
    return made
