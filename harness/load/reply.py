"""Answers read: bytes that came back, with the time of each, to what a Sample and an Output say.

Reading happens after the answer is complete, so that it disturbs no clock of the same pair.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tritonclient.grpc import service_pb2

from harness.load import outcome
from harness.load.outcome import Failure
from harness.tensors import Tensor, decode
from harness.types import ModelInfo


@dataclass(slots=True)
class Exchange:
    """What a sender brings back. `frames` are (arrival, bytes) of each message; for HTTP there is one.

    `json_size` is HTTP's Inference-Header-Content-Length, -1 if none. Times count from the run's start.
    """

    sent_ns: int
    done_ns: int
    frames: list[tuple[int, bytes]]
    failure: Failure | None = None
    json_size: int = -1


@dataclass(slots=True)
class Reply:
    """An answer, complete or not. -1 is unknown."""

    failure: Failure | None = None
    first_ns: int = -1
    version: str = ""
    isl: int = -1
    osl: int = -1
    finish_reason: str = ""
    text: str = ""
    digest: str = ""
    token_ids: list[int] = field(default_factory=list)
    k: int = 0
    topk_ids: list[int] = field(default_factory=list)
    topk_logprobs: list[float] = field(default_factory=list)
    chunks_ns: list[int] = field(default_factory=list)


class Reader:
    """Reads the answers of one model over one wire. `digests`: SHA-256 of answers that are not tokens."""

    def __init__(self, model: ModelInfo, wire: str, *, digests: bool) -> None:
        self._wire = wire
        self._tokens = model.is_token_model
        self._digests = digests and not self._tokens
        self._counts = any(t.name == "token_ids" for t in model.outputs)

    def read(self, exchange: Exchange) -> Reply:
        """Never raises for what a server sent: an answer that cannot be read is a failed one."""
        reply = Reply(failure=exchange.failure)
        try:
            self._read(exchange, reply)
        except (DecodeError, ValueError, LookupError, TypeError, struct.error) as error:
            reply.failure = reply.failure or Failure("error", "undecodable", "", str(error))
        if reply.failure is None and self._tokens and not reply.text and not reply.token_ids:
            reply.failure = outcome.EMPTY
        return reply

    def _read(self, exchange: Exchange, reply: Reply) -> None:
        sha = hashlib.sha256()
        pieces: list[bytes] = []
        for t_ns, version, tensors in self._messages(exchange, reply):
            reply.version = version or reply.version
            some = bool(tensors) and not self._tokens
            for name, datatype, shape, raw in tensors:
                if self._digests:
                    sha.update(f"{name} {datatype} {list(shape)} {len(raw)}\n".encode())
                    sha.update(raw)
                if not self._tokens or not raw:
                    continue
                match name:
                    case "text_output":
                        piece = b"".join(decode(datatype, raw))
                        pieces.append(piece)
                        some = some or bool(piece)
                    case "token_ids":
                        reply.token_ids += decode(datatype, raw)
                        some = True
                    case "topk_ids":
                        reply.topk_ids += decode(datatype, raw)
                        reply.k = shape[-1]
                    case "topk_logprobs":
                        reply.topk_logprobs += decode(datatype, raw)
                    case "finish_reason":
                        reply.finish_reason = b"".join(decode(datatype, raw)).decode() or reply.finish_reason
                    case "input_tokens":
                        reply.isl = int(decode(datatype, raw)[0])
            if some:
                reply.chunks_ns.append(t_ns)
        if reply.chunks_ns:
            reply.first_ns = reply.chunks_ns[0]
        if self._counts:
            reply.osl = len(reply.token_ids)
        # A character may be cut in two between chunks: text is decoded once, whole.
        reply.text = b"".join(pieces).decode(errors="replace")
        if self._digests and reply.failure is None:
            reply.digest = sha.hexdigest()

    def _messages(self, exchange: Exchange, reply: Reply) -> Iterator[tuple[int, str, list[Tensor]]]:
        for t_ns, raw in exchange.frames:
            if self._wire == "http":
                if exchange.failure is None:
                    yield t_ns, *_http(raw, exchange.json_size)
                continue
            if self._wire == "grpc-stream":
                frame = service_pb2.ModelStreamInferResponse.FromString(raw)
                if frame.error_message:
                    reply.failure = reply.failure or outcome.of_stream(frame.error_message)
                    continue
                response = frame.infer_response
            else:
                response = service_pb2.ModelInferResponse.FromString(raw)
            yield t_ns, response.model_version, list(_grpc(response))


def _grpc(response: Any) -> Iterable[Tensor]:
    raws = response.raw_output_contents
    if len(raws) != len(response.outputs):
        raise ValueError("outputs without raw contents")
    for meta, raw in zip(response.outputs, raws, strict=True):
        yield Tensor(meta.name, meta.datatype, tuple(meta.shape), raw)


def _http(body: bytes, json_size: int) -> tuple[str, list[Tensor]]:
    size = len(body) if json_size < 0 else json_size
    head = json.loads(body[:size])
    tensors: list[Tensor] = []
    for meta in head["outputs"]:
        length = meta["parameters"]["binary_data_size"]
        if size + length > len(body):
            raise ValueError("the answer ends too early")
        tensors.append(Tensor(meta["name"], meta["datatype"], tuple(meta["shape"]), body[size : size + length]))
        size += length
    return str(head.get("model_version", "")), tensors
