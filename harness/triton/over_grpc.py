"""Triton's control calls over gRPC, through tritonclient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from harness.errors import Unreachable
from harness.triton.protobuf import ModelConfig, json_format
from harness.triton.transport import Refused, one_line

CONNECTION_LOST = "StatusCode.UNAVAILABLE"
NOT_TRITON = ("StatusCode.UNIMPLEMENTED", "StatusCode.UNKNOWN")
DEADLINE = "StatusCode.DEADLINE_EXCEEDED"


class GrpcTransport:
    """See Transport. The connection is made at the first call."""

    def __init__(self, url: str, address: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self.url = url
        self._timeout_s = timeout_s
        # gRPC refuses metadata keys that are not in lower case.
        self._headers = {key.lower(): value for key, value in headers.items()}
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # A server that comes back is found again soon, not after gRPC's default of up to two minutes.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 1000),
            # A proxy between us and an inference server is never meant.
            ("grpc.enable_http_proxy", 0),
        ]
        self._client = triton.InferenceServerClient(address, channel_args=options)

    def live(self) -> bool:
        return bool(self._ask(self._client.is_server_live))

    def server_ready(self) -> bool:
        return bool(self._ask(self._client.is_server_ready))

    def ready(self, model: str, version: int) -> bool:
        try:
            return bool(self._ask(self._client.is_model_ready, model, str(version)))
        except Refused as refusal:
            if refusal.unknown:
                return False
            raise

    def server(self) -> dict[str, Any]:
        return _json(self._ask(self._client.get_server_metadata))

    def index(self) -> list[dict[str, Any]]:
        models: list[dict[str, Any]] = _json(self._ask(self._client.get_model_repository_index)).get("models", [])
        return models

    def metadata(self, model: str, version: int | None) -> dict[str, Any]:
        answer = _json(self._ask(self._client.get_model_metadata, model, _text(version)))
        for tensor in (*answer.get("inputs", ()), *answer.get("outputs", ())):
            tensor["shape"] = [int(size) for size in tensor.get("shape", ())]
        return answer

    def config(self, model: str, version: int | None) -> dict[str, Any]:
        message = self._ask(self._client.get_model_config, model, _text(version)).config
        config = _json(message)
        # A newer server's fields would silently be missing from a configuration that is sent back.
        if json_format.ParseDict(config, ModelConfig()).ByteSize() != message.ByteSize():
            raise Refused(
                f"{self.url}: the configuration of {model} has fields that this tritonclient does not know: "
                "update tritonclient, or use the server's http:// address"
            )
        return config

    def load(self, model: str, config: str | None, timeout_s: float) -> None:
        self._ask(self._client.load_model, model, timeout_s=timeout_s, config=config)

    def unload(self, model: str, timeout_s: float) -> None:
        self._ask(self._client.unload_model, model, timeout_s=timeout_s)

    def close(self) -> None:
        self._client.close()

    def _ask(self, call: Callable[..., Any], *arguments: str, timeout_s: float | None = None, **options: Any) -> Any:
        patience = timeout_s or self._timeout_s
        try:
            return call(*arguments, headers=self._headers, client_timeout=patience, **options)
        except InferenceServerException as error:
            raise self._translate(error, patience, slow=timeout_s is not None) from error

    def _translate(self, error: InferenceServerException, patience: float, slow: bool) -> Unreachable | Refused:
        message, status = one_line(error.message() or ""), error.status()
        if status == DEADLINE and slow:
            return Refused(f"{self.url}: not finished after {patience:g} s", timed_out=True)
        if status == DEADLINE:
            return Unreachable(f"{self.url}: no answer within {patience:g} s")
        # Triton uses the same status for a version that is loading, so the words alone do not tell.
        if status == CONNECTION_LOST and not self._answers():
            why = message.rpartition(": ")[2].strip(" ]") or "no connection"
            return Unreachable(f"{self.url}: nobody answers there ({why})")
        if status in NOT_TRITON:
            return Refused(f"{self.url}: answers, but not as a Triton: {message}")
        return Refused(message, unknown=status == "StatusCode.NOT_FOUND" or "unknown model" in message)

    def _answers(self) -> bool:
        try:
            self._client.is_server_live(headers=self._headers, client_timeout=self._timeout_s)
        except InferenceServerException:
            return False
        return True


def _text(version: int | None) -> str:
    return "" if version is None else str(version)


def _json(message: Any) -> dict[str, Any]:
    converted: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return converted
