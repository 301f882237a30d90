"""Triton's control calls over gRPC: tritonclient's generated stub on a channel of our own."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import grpc

from harness.errors import Unreachable
from harness.tensors import Tensor
from harness.triton.access import Access
from harness.triton.answer import Answer, joined
from harness.triton.protobuf import ModelConfig, json_format
from harness.triton.tls import grpc_credentials
from harness.triton.transport import Refused, no_entry, one_line

pb: Any = import_module("tritonclient.grpc.service_pb2")
service: Any = import_module("tritonclient.grpc.service_pb2_grpc")

OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A server that comes back is found again soon, not after gRPC's default of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A proxy between us and an inference server is never meant.
    ("grpc.enable_http_proxy", 0),
)
NOT_TRITON = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN)
# gRPC's words where the connection, or a proxy's patience, ended in the middle of a call.
CUT_OFF = re.compile(r"Socket closed|Stream removed|Connection reset|GOAWAY|http2 header with status: 50[24]")
# And where it ended before there was one.
CLOSED = ("Socket closed", "Connection reset by peer", "Broken pipe")
NO_ENTRY = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
# Triton's words where a header is missing; it uses the status of a lost connection.
RESTRICTED = "protocol is restricted"


class GrpcTransport:
    """See Transport. The connection is made at the first call."""

    def __init__(self, url: str, address: str, access: Access, timeout_s: float, *, tls: bool) -> None:
        self.url = url
        self._timeout_s = timeout_s
        # gRPC refuses metadata keys that are not in lower case.
        self._access = access
        self._metadata = tuple((name.lower(), value) for name, value in access.headers.items())
        if tls:
            named = [("grpc.ssl_target_name_override", access.server_name)] if access.server_name else []
            self._channel = grpc.secure_channel(address, grpc_credentials(access), [*OPTIONS, *named])
        else:
            self._channel = grpc.insecure_channel(address, OPTIONS)
        self._stub = service.GRPCInferenceServiceStub(self._channel)

    def live(self) -> bool:
        return bool(self._ask("ServerLive", pb.ServerLiveRequest()).live)

    def server_ready(self) -> bool:
        return bool(self._ask("ServerReady", pb.ServerReadyRequest()).ready)

    def ready(self, model: str, version: int) -> bool:
        try:
            return bool(self._ask("ModelReady", pb.ModelReadyRequest(name=model, version=str(version))).ready)
        except Refused as refusal:
            if refusal.unknown:
                return False
            raise

    def server(self) -> dict[str, Any]:
        return _json(self._ask("ServerMetadata", pb.ServerMetadataRequest()))

    def index(self) -> list[dict[str, Any]]:
        models: list[dict[str, Any]] = _json(self._ask("RepositoryIndex", pb.RepositoryIndexRequest())).get(
            "models", []
        )
        return models

    def metadata(self, model: str, version: int | None) -> dict[str, Any]:
        return _json(self._ask("ModelMetadata", pb.ModelMetadataRequest(name=model, version=_text(version))))

    def config(self, model: str, version: int | None) -> dict[str, Any]:
        message = self._ask("ModelConfig", pb.ModelConfigRequest(name=model, version=_text(version))).config
        config = _json(message)
        # A newer server's fields would silently be missing from a configuration that is sent back.
        if json_format.ParseDict(config, ModelConfig()).ByteSize() != message.ByteSize():
            raise Refused(
                f"{self.url}: the configuration of {model} has fields that this tritonclient does not know: "
                "update tritonclient, or use the server's http:// address"
            )
        return config

    def statistics(self, model: str) -> list[dict[str, Any]]:
        answer = _json(self._ask("ModelStatistics", pb.ModelStatisticsRequest(name=model)))
        rows: list[dict[str, Any]] = answer.get("model_stats", [])
        return rows

    def infer(self, model: str, version: int | None, tensors: Sequence[Tensor], timeout_s: float) -> Answer:
        return _answer(self._ask("ModelInfer", _request(model, version, tensors), timeout_s))

    def stream(self, model: str, version: int | None, tensors: Sequence[Tensor], timeout_s: float) -> Answer:
        # One request and then end of sending: Triton ends the stream after its last answer. It is read to that end,
        # not cancelled: Triton 2.51 was seen to crash after some thousand cancelled streams.
        request = iter([_request(model, version, tensors)])
        try:
            messages = list(self._stub.ModelStreamInfer(request, timeout=timeout_s, metadata=self._metadata))
        except grpc.RpcError as error:
            raise self._translate(error, timeout_s, slow=True) from error
        for message in messages:
            if message.error_message:
                raise Refused(message.error_message)
        if not messages:
            raise Refused(f"{self.url}: {model} ended its stream without an answer")
        return joined([_answer(message.infer_response) for message in messages])

    def load(self, model: str, config: str | None, timeout_s: float) -> None:
        request = pb.RepositoryModelLoadRequest(model_name=model)
        if config is not None:
            request.parameters["config"].string_param = config
        self._ask("RepositoryModelLoad", request, timeout_s)

    def unload(self, model: str, timeout_s: float) -> None:
        self._ask("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=model), timeout_s)

    def http_status(self, path: str) -> int | None:  # noqa: ARG002  the question has no answer on this wire
        return None

    def close(self) -> None:
        self._channel.close()

    def _ask(self, call: str, request: Any, timeout_s: float | None = None) -> Any:
        patience = timeout_s or self._timeout_s
        try:
            return getattr(self._stub, call)(request, timeout=patience, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._translate(error, patience, slow=timeout_s is not None) from error

    def _translate(self, error: Any, patience: float, slow: bool) -> Unreachable | Refused:
        message, status = self._access.hide(one_line(error.details() or "")), error.code()
        if status == grpc.StatusCode.DEADLINE_EXCEEDED and slow:
            return Refused(f"{self.url}: not finished after {patience:g} s", unfinished=True)
        if status == grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unreachable(f"{self.url}: no answer within {patience:g} s")
        if RESTRICTED in message or status in NO_ENTRY:
            return no_entry(self.url, message, self._access)
        # Triton uses the same status for a version that is loading, so the words alone do not tell.
        if status == grpc.StatusCode.UNAVAILABLE and not self._answers():
            return Unreachable(f"{self.url}: nobody answers there ({_why(message)})")
        if status in NOT_TRITON:
            return Refused(f"{self.url}: answers, but not as a Triton: {message}")
        cut_off = slow and status == grpc.StatusCode.UNAVAILABLE and CUT_OFF.search(message) is not None
        return Refused(message, unknown=status == grpc.StatusCode.NOT_FOUND, unfinished=cut_off)

    def _answers(self) -> bool:
        """A connection that was cut takes the next questions with it until gRPC notices; a refused one is an answer."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                self._stub.ServerLive(pb.ServerLiveRequest(), timeout=self._timeout_s, metadata=self._metadata)
            except grpc.RpcError as error:
                message = error.details() or ""
                if RESTRICTED in message or not message.startswith("Stream removed") or time.monotonic() > deadline:
                    return RESTRICTED in message
                time.sleep(0.1)
            else:
                return True


def _why(message: str) -> str:
    """The last and most particular of the reasons that gRPC strings together."""
    why = message.removesuffix(": OK").rpartition(": ")[2].strip(" ]") or "no connection"
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return f"its certificate is not trusted: {why}"
    if message.startswith("failed to connect") and any(words in why for words in CLOSED):
        return f"{why}: it may speak TLS where the address does not, or ask for a client certificate"
    return why


def _request(model: str, version: int | None, tensors: Sequence[Tensor]) -> Any:
    request = pb.ModelInferRequest(model_name=model, model_version=_text(version))
    for tensor in tensors:
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        request.raw_input_contents.append(tensor.raw)
    return request


def _answer(message: Any) -> Answer:
    # Triton answers with raw contents only, in the order of the outputs.
    outputs = zip(message.outputs, message.raw_output_contents, strict=True)
    tensors = [Tensor(output.name, output.datatype, tuple(output.shape), raw) for output, raw in outputs]
    return Answer(int(message.model_version), tuple(tensors))


def _text(version: int | None) -> str:
    return "" if version is None else str(version)


def _json(message: Any) -> dict[str, Any]:
    converted: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return converted
