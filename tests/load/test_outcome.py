from __future__ import annotations

import errno
import socket
import ssl

import pytest

from harness.load import outcome
from tests.messages import FALSE_FRIENDS, PRODUCED, QUOTED, Said


@pytest.mark.parametrize(
    ("code", "message", "status", "error"),
    [
        ("UNAVAILABLE", "failed to connect to all addresses", "refused", "unavailable"),
        (
            "UNAVAILABLE",
            "Request for unknown model: 'm' version 2 is not at ready state",
            "refused",
            "unavailable",
        ),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", "timeout", "deadline"),
        ("CANCELLED", "Locally cancelled by application!", "cancelled", "cancelled"),
        ("INTERNAL", "CUDA out of memory. Tried to allocate 20.00 MiB", "oom", "out of memory"),
        ("RESOURCE_EXHAUSTED", "failed to allocate pinned memory", "oom", "out of memory"),
        ("UNAVAILABLE", "OOM when allocating tensor", "oom", "out of memory"),
        ("INTERNAL", "the model's room is full", "error", "internal"),
        ("INVALID_ARGUMENT", "unexpected shape", "error", "invalid_argument"),
        ("NOT_FOUND", "Request for unknown model", "error", "not_found"),
        ("UNAVAILABLE", "[request id: <id_unknown>] Exceeds maximum queue size", "refused", "queue full"),
        ("UNAVAILABLE", "Request timeout expired", "timeout", "server timeout"),
        ("INTERNAL", "Stub process 'tiny_0_2' is not healthy.", "error", "stub died"),
        ("UNAVAILABLE", "Socket closed", "refused", "connection broken"),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (5 vs 4)", "error", "resource_exhausted"),
    ],
)
def test_grpc_statuses(code: str, message: str, status: str, error: str) -> None:
    failure = outcome.of_grpc(code, message)
    assert (failure.status, failure.error, failure.code) == (status, error, code)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("tiny was told to fail", "error"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory", "oom"),
        ("Request timeout expired", "timeout"),
        ("the request timed out in the queue", "timeout"),
        ("timeouts: none", "error"),
        ("Stub process 'm_0_0' is not healthy.", "error"),
        ("[request id: 7] Exceeds maximum queue size", "refused"),
    ],
)
def test_errors_inside_a_stream(message: str, status: str) -> None:
    assert outcome.of_stream(message).status == status


@pytest.mark.parametrize(
    ("code", "message", "status"),
    [
        (400, "unexpected shape", "error"),
        (500, "std::bad_alloc", "oom"),
        (503, "Server not ready", "refused"),
        (503, "Request timeout expired", "timeout"),
        (504, "", "timeout"),
        (429, "slow down", "error"),
        (503, "[request id: 7] Exceeds maximum queue size", "refused"),
        (500, "EngineCore encountered an issue. See stack trace (above) for the root cause.", "error"),
    ],
)
def test_http_answers(code: int, message: str, status: str) -> None:
    failure = outcome.of_http(code, message)
    assert (failure.status, failure.code) == (status, str(code))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "refused", "ECONNREFUSED"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "error", "ECONNRESET"),
        (BrokenPipeError(errno.EPIPE, "broken pipe"), "error", "EPIPE"),
        (TimeoutError("timed out"), "timeout", "TIMEOUT"),
        (socket.gaierror(-2, "Name or service not known"), "refused", "gaierror"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "refused", "EHOSTUNREACH"),
        (OSError(errno.EMFILE, "Too many open files"), "cancelled", "EMFILE"),
        # OpenSSL numbers in its own way: 1 is no EPERM, 24 would be no EMFILE.
        (ssl.SSLError(1, "[SSL] record layer failure"), "error", "SSLError"),
        (ssl.SSLCertVerificationError(1, "self-signed certificate"), "error", "SSLCertVerificationError"),
        (ssl.SSLError(errno.EMFILE, "what it is"), "error", "SSLError"),
    ],
)
def test_broken_connections(error: OSError, status: str, code: str) -> None:
    failure = outcome.of_os_error(error)
    assert (failure.status, failure.code) == (status, code)


def test_a_server_that_was_there_and_is_not_any_more() -> None:
    """A break may be a proxy's doing; where nobody listens any more, somebody has ended."""
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    assert outcome.of_os_error(refused).error == "connection refused"
    gone = outcome.of_os_error(refused, was_there=True)
    assert (gone.status, gone.error, gone.code) == ("refused", "server died", "ECONNREFUSED")
    broken = outcome.of_os_error(ConnectionResetError(errno.ECONNRESET, "reset"), was_there=True)
    assert (broken.status, broken.error) == ("error", "connection broken")


@pytest.mark.parametrize("said", [*PRODUCED, *QUOTED, *FALSE_FRIENDS], ids=lambda said: said.message[:40])
def test_only_what_ran_out_of_memory_is_called_so(said: Said) -> None:
    for failure in (
        outcome.of_grpc(said.code if said.code.isupper() else "INTERNAL", said.message),
        outcome.of_http(int(said.code) if said.code.isdigit() else 500, said.message),
        outcome.of_stream(said.message),
    ):
        assert (failure.status == "oom") == (failure.error == "out of memory")
        if said.kind == "out of memory" or said.code != "INVALID_ARGUMENT":
            assert (failure.status == "oom") == (said.kind == "out of memory"), failure
