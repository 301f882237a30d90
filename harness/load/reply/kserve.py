"""KServe v2 answers: gRPC messages, alone or in a stream, and HTTP bodies with binary or JSON tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from tritonclient.grpc import service_pb2

from harness.load import outcome
from harness.load.engine.exchange import Exchange
from harness.load.reply.gathering import LOGPROB, Gathering, ids, logprob
from harness.load.reply.numbers import Numbers
from harness.load.reply.reply import LONGEST, Reply
from harness.tensors import Tensor, decode, encode
from harness.types import ModelInfo, Wire

_VERSION = b'"model_version":"'
_ISL = ("input_tokens", "num_input_tokens")
_LENGTH = 4
"""Bytes in front of each BYTES element."""


def http_version(body: bytes, json_size: int) -> str | None:
    """The version as Triton writes it, found and not parsed; None where the body is not of that form."""
    at = body.find(_VERSION, 0, json_size if json_size >= 0 else len(body)) + len(_VERSION)
    end = body.find(b'"', at, at + LONGEST + 1) if at >= len(_VERSION) else -1
    return body[at:end].decode("ascii", "replace") if end > 0 and body[0] == 0x7B else None


def grpc_version(message: bytes, _: int) -> str | None:
    """Fields 1 and 2 of a ModelInferResponse, if the message begins with them and they are short; else None."""
    if len(message) < 4 or message[0] != 0x0A:
        return None
    at = 2 + message[1]
    if message[1] > 0x7F or len(message) < at + 2 or message[at] != 0x12:
        return None
    end = at + 2 + message[at + 1]
    if message[at + 1] > LONGEST:
        return None
    return message[at + 2 : end].decode("ascii", "replace") if end <= len(message) else None


class About(Protocol):
    """What a message says of a tensor beside its name and bytes: protobuf's own object, or a Tensor."""

    @property
    def datatype(self) -> str: ...

    @property
    def shape(self) -> Sequence[int]: ...


Outputs = Iterable[tuple[str, bytes, About]]


class Tensors:
    """Answers of a model that is no token model."""

    def __init__(self, wire: Wire, *, digests: bool, vectors: bool) -> None:
        self._wire = wire
        self._digests = digests
        self._vectors = vectors

    def read(self, exchange: Exchange, reply: Reply) -> None:
        sha, numbers = hashlib.sha256(), Numbers(reply, vectors=self._vectors)
        for t_ns, version, tensors in _messages(self._wire, exchange, reply):
            reply.version = version or reply.version
            some = False
            for name, raw, about in tensors:
                some = True
                if self._digests:
                    sha.update(f"{name} {about.datatype} {list(about.shape)} {len(raw)}\n".encode())
                    sha.update(raw)
                    numbers.tensor(name, about.datatype, about.shape, raw)
            if some:
                if reply.first_ns < 0:
                    reply.first_ns = t_ns
                if self._wire == "grpc-stream":
                    reply.chunks_ns.append(t_ns)
        if self._digests and reply.failure is None:
            reply.digest = sha.hexdigest()
            numbers.end()


class Tokens:
    """Answers of a token model, by the names that Triton's LLM backends and the demonstration model share."""

    def __init__(self, model: ModelInfo, wire: Wire, *, keep: bool) -> None:
        self._wire = wire
        self._keep = keep
        self._counts = any(t.name == "token_ids" for t in model.outputs)

    def read(self, exchange: Exchange, reply: Reply) -> None:
        gathering = Gathering(reply, keep=self._keep, streams=self._wire == "grpc-stream")
        if self._counts:
            gathering.tokens(0)
        try:
            for t_ns, version, tensors in _messages(self._wire, exchange, reply):
                reply.version = version or reply.version
                for name, raw, about in tensors:
                    if raw:
                        self._tensor(gathering, reply, name, raw, about)
                gathering.chunk(t_ns)
        finally:
            gathering.end()

    def _tensor(self, gathering: Gathering, reply: Reply, name: str, raw: bytes, about: About) -> None:
        if name == "text_output":
            gathering.text(_text(raw))
        elif name == "token_ids":
            gathering.tokens(_elements(about.shape))
            if self._keep:
                reply.token_ids += ids(decode(about.datatype, raw))
        elif name == "finish_reason":
            if len(raw) > _LENGTH:
                gathering.reason(_text(raw).decode())
        elif name in _ISL:
            if reply.isl < 0:
                reply.isl = _total(raw, about)
        elif name == "num_output_tokens":
            gathering.counted(_total(raw, about))
        elif self._keep and name in LOGPROB:
            reply.logprob = logprob(decode(about.datatype, raw), reply.logprob)
        elif self._keep and name == "topk_ids":
            reply.topk_ids += ids(decode(about.datatype, raw))
            (reply.k,) = ids(about.shape[-1:])
        elif self._keep and name == "topk_logprobs":
            reply.topk_logprobs += [float(value) for value in decode(about.datatype, raw)]


def _text(raw: bytes) -> bytes:
    """The elements of a BYTES tensor, one after another."""
    size = int.from_bytes(raw[:_LENGTH], "little")
    return raw[_LENGTH:] if len(raw) == size + _LENGTH else b"".join(decode("BYTES", raw))


def _total(raw: bytes, about: About) -> int:
    """The sum of a tensor of counts, which mostly holds one."""
    return int.from_bytes(raw, "little") if _elements(about.shape) == 1 else int(sum(decode(about.datatype, raw)))


def _elements(shape: Sequence[int]) -> int:
    number = 1
    for size in shape:
        number *= size
    return number


def _messages(wire: Wire, exchange: Exchange, reply: Reply) -> Iterator[tuple[int, str, Outputs]]:
    """Each message's arrival, version and tensors. An error inside a stream becomes the reply's failure."""
    if wire == "http":
        body = b"".join(raw for _, raw in exchange.frames)
        yield exchange.frames[-1][0], *_http(body, exchange.json_size)
        return
    for t_ns, raw in exchange.frames:
        if wire == "grpc-stream":
            frame = service_pb2.ModelStreamInferResponse.FromString(raw)
            if frame.error_message:
                reply.failure = reply.failure or outcome.of_stream(frame.error_message)
                continue
            response = frame.infer_response
        else:
            response = service_pb2.ModelInferResponse.FromString(raw)
        yield t_ns, response.model_version, _grpc(response)


def _grpc(response: Any) -> Outputs:
    outputs, raws = response.outputs, response.raw_output_contents
    if len(raws) != len(outputs):
        raise ValueError("outputs without raw contents")
    for about, raw in zip(outputs, raws, strict=True):
        yield about.name, raw, about


def _http(body: bytes, json_size: int) -> tuple[str, Outputs]:
    size = len(body) if json_size < 0 else json_size
    head = json.loads(body[:size])
    outputs: list[tuple[str, bytes, About]] = []
    for meta in head["outputs"]:
        name, datatype, shape = meta["name"], meta["datatype"], tuple(ids(meta["shape"]))
        if "data" in meta:
            raw = encode(datatype, _flat(meta["data"]))
        else:
            length = meta["parameters"]["binary_data_size"]
            if size + length > len(body):
                raise ValueError("the answer ends too early")
            raw, size = body[size : size + length], size + length
        outputs.append((name, raw, Tensor(name, datatype, shape, raw)))
    return str(head.get("model_version", "")), outputs


def _flat(data: Any) -> list[Any]:
    """KServe allows tensors in JSON flat or nested."""
    return [value for part in data for value in _flat(part)] if isinstance(data, list) else [data]
