"""The same connection under TLS: who the other side is, and how it says goodbye."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import trustme

from harness.load.engine.loop import Loop
from harness.load.template import request_id
from harness.types import Tls
from tests.load.engine.conftest import run_until
from tests.load.engine.http_client import ASKED, CHUNKED, PLAIN, Client, Make, answering, read_request


def tls_server(*names: str) -> tuple[trustme.CA, ssl.SSLContext]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return authority, context


def test_the_same_under_tls(loop: Loop, script: Make, tmp_path: Path) -> None:
    authority, context = tls_server("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = script(answering(PLAIN, CHUNKED), context)
    client = Client(loop, server.port, scheme="https", tls=Tls(ca=str(tmp_path / "ca.pem")))
    for _ in range(3):
        client.send()
        client.wait()
    assert client.statuses() == ["200"] * 3
    assert b"".join(part for _, part in client.answers.done[1].frames) == b"data: a\n\n0123456789"
    assert server.connections == 1


def test_a_server_that_says_goodbye_under_tls_costs_no_request(loop: Loop, script: Make, tmp_path: Path) -> None:
    """It waits for our goodbye before it closes, as asyncio's servers do."""
    authority, context = tls_server("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    def serve(connection: socket.socket, _: int) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        read_request(connection)
        connection.sendall(PLAIN)
        connection.unwrap()

    client = Client(loop, script(serve, context).port, scheme="https", tls=Tls(ca=str(tmp_path / "ca.pem")))
    for _ in range(3):
        client.send()
        client.wait()
        run_until(loop, lambda: not client.sender._all)
    assert client.statuses() == ["200"] * 3


def test_a_server_that_is_not_who_it_should_be_is_not_spoken_to(loop: Loop, script: Make, tmp_path: Path) -> None:
    heard: list[bytes] = []
    authority, context = tls_server("elsewhere.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = script(lambda connection, _: heard.append(connection.recv(100)), context)
    for tls in (None, Tls(ca=str(tmp_path / "ca.pem"))):
        client = Client(loop, server.port, scheme="https", tls=tls)
        client.send()
        client.wait()
        failure = client.answers.done[0].failure
        assert failure is not None
        assert (failure.status, failure.error, failure.code) == ("error", "tls", "CERTIFICATE_VERIFY_FAILED")
    named = Client(
        loop, server.port, scheme="https", tls=Tls(ca=str(tmp_path / "ca.pem"), server_name="elsewhere.example")
    )
    named.send()
    named.wait()
    assert heard == [ASKED.fill(request_id(1, "baseline").encode())]
