"""Addresses where no Triton answers: one line naming the URL, within the bound."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from harness.errors import Unreachable, UsageError
from harness.triton import Control
from tests.ports import closed_port

SCHEMES = pytest.mark.parametrize("scheme", ["grpc", "http"])


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@SCHEMES
def test_nobody_listens(scheme: str) -> None:
    with closed_port() as port:
        url = f"{scheme}://127.0.0.1:{port}"
        with Control(url, timeout_s=5) as control, pytest.raises(Unreachable) as caught:
            control.live()
    assert str(caught.value).startswith(f"{url}: nobody answers there")
    assert "refused" in str(caught.value)


@SCHEMES
def test_silence_ends_within_the_bound(scheme: str, listener: socket.socket) -> None:
    url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
    began = time.monotonic()
    with Control(url, timeout_s=0.5) as control, pytest.raises(Unreachable) as caught:
        control.set_versions("tiny", [1])
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)
    # Twice the bound is the design (a question, then whether anybody is there); the rest is a busy machine.
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "url",
    ["", "triton", "triton:8001", "ftp://triton", "http://", "grpc://triton:port", "grpc://triton:8001/v2"],
)
def test_no_server_address(url: str) -> None:
    with pytest.raises(UsageError):
        Control(url)


@pytest.mark.triton
def test_the_other_protocols_port(server) -> None:
    for url in (
        server.grpc_url.replace("grpc", "http"),
        server.http_url.replace("http", "grpc"),
    ):
        with Control(url) as control, pytest.raises(Unreachable, match=url):
            control.live()


@pytest.mark.parametrize("scheme", ["grpc", "grpcs"])
def test_a_connection_that_is_reset_while_it_is_made_may_want_a_certificate(
    listener: socket.socket, scheme: str
) -> None:
    """As by a server of TLS 1.3 that misses one: what it has not read yet makes a reset of its closing."""

    def reset() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # it is over
                return
            with connection:
                connection.recv(1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    threading.Thread(target=reset, daemon=True).start()
    with (
        Control(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}") as control,
        pytest.raises(Unreachable, match=r"reset by peer.*ask for a client certificate"),
    ):
        control.live()
    listener.shutdown(socket.SHUT_RDWR)
