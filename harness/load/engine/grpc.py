"""Triton's gRPC from prepared bytes, for the Locust process: `grpc.experimental.gevent` must be initialised.

A message that is already serialized costs a third of one built by the client library. Both kinds of call go
through the channel's own poller, so that open requests cost no thread each and can be cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from harness.load import outcome
from harness.load.payload import encode_grpc, with_id
from harness.load.reply import Exchange
from harness.load.spec import host_of
from harness.tensors import Tensor
from harness.types import Arm, ModelInfo

SERVICE = "/inference.GRPCInferenceService/"
OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Each arm has its own connection, also on one server: neither waits behind the other's bytes.
    ("grpc.use_local_subchannel_pool", 1),
    # A measurement through a proxy that an environment variable names would be a surprise.
    ("grpc.enable_http_proxy", 0),
    # A server that comes back is noticed within a second, not within two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class GrpcSender:
    """One arm over gRPC: a unary call for each request, or a stream for each where the model is decoupled."""

    def __init__(self, arm: Arm, model: ModelInfo, now_ns: Callable[[], int]) -> None:
        self._arm = arm
        self._model = model
        self._now_ns = now_ns
        self._live: set[Any] = set()
        self._metadata = tuple((name.lower(), value) for name, value in arm.headers.items()) or None
        self._channel = grpc.insecure_channel(host_of(arm.url), options=OPTIONS)
        if model.decoupled:
            # One request and then end of sending: on the wire a stream opened so is a server stream.
            self._stream = self._channel.unary_stream(SERVICE + "ModelStreamInfer", None, None)
            self.send = self._send_stream
        else:
            self._unary = self._channel.unary_unary(SERVICE + "ModelInfer", None, None)
            self.send = self._send_unary

    def prepare(self, tensors: Sequence[Tensor]) -> bytes:
        return encode_grpc(self._model, self._arm, tensors)

    def connect(self, timeout_s: float) -> None:
        try:
            grpc.channel_ready_future(self._channel).result(timeout=timeout_s)
        except grpc.FutureTimeoutError:
            return

    def _send_unary(self, payload: bytes, request_id: str, timeout_s: float) -> Exchange:
        message = with_id(payload, request_id)
        sent_ns = self._now_ns()
        call = self._unary.future(message, timeout=timeout_s, metadata=self._metadata)
        self._live.add(call)
        try:
            answer = call.result()
            done_ns = self._now_ns()
            return Exchange(sent_ns, done_ns, [(done_ns, answer)])
        except (grpc.RpcError, grpc.FutureCancelledError):
            return Exchange(sent_ns, self._now_ns(), [], outcome.of_grpc(call.code().name, call.details() or ""))
        finally:
            self._live.discard(call)

    def _send_stream(self, payload: bytes, request_id: str, timeout_s: float) -> Exchange:
        message = with_id(payload, request_id)
        frames: list[tuple[int, bytes]] = []
        sent_ns = self._now_ns()
        call = self._stream(message, timeout=timeout_s, metadata=self._metadata)
        self._live.add(call)
        try:
            for frame in call:
                frames.append((self._now_ns(), frame))  # noqa: PERF401  each is stamped as it comes
            # The last message ends the answer; the stream's trailer comes later and says nothing more.
            done_ns = frames[-1][0] if frames else self._now_ns()
            return Exchange(sent_ns, done_ns, frames)
        except (grpc.RpcError, grpc.FutureCancelledError):
            failure = outcome.of_grpc(call.code().name, call.details() or "")
            return Exchange(sent_ns, self._now_ns(), frames, failure)
        finally:
            self._live.discard(call)

    def cancel(self) -> None:
        for call in tuple(self._live):
            call.cancel()

    def close(self) -> None:
        self._channel.close()
