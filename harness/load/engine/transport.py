"""One TCP connection, in the clear or under TLS, as the loop sees it: bytes out, bytes in, and its end."""

from __future__ import annotations

# The C type: gevent replaces the one in `socket`.
import _socket
import errno
import os
import ssl
from typing import Protocol

from harness.load.engine.address import Address
from harness.load.engine.loop import READ, WRITE, Loop

BLOCK = 1 << 16
CONNECT_S = 10.0
"""A connection that is not open by then, TLS included, is given up."""
_KIND = _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
_NOT_NOW = (errno.EAGAIN, errno.EINPROGRESS, errno.EINTR)


class Protocolled(Protocol):
    """Who uses a Transport. None of these is called after `lost`, and `lost` once."""

    def opened(self) -> None:
        """Bytes may be sent (and, under TLS, the other side is who it should be)."""

    def received(self, data: bytes, now_ns: int) -> None: ...

    def lost(self, error: OSError | None) -> None:
        """The connection is gone; None where the other side closed it in good order."""


class Transport:
    """Connects at once; `send` before `opened` keeps the bytes until then. All calls belong to the loop's thread."""

    def __init__(self, loop: Loop, address: Address, user: Protocolled) -> None:
        self._loop = loop
        self._user = user
        self._out = bytearray()
        self._open = self._closed = False
        self._tls = _Tls(address) if address.tls else None
        self._fd = -1
        late = TimeoutError(errno.ETIMEDOUT, "no connection came about")
        self._patience = loop.after(CONNECT_S, self._lose, late)
        try:
            self._socket = _socket.socket(address.family, _KIND)
        except OSError as error:  # no file descriptor is left
            loop.at(0, self._lose, error)
            return
        self._fd = self._socket.fileno()
        self._socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        code = self._socket.connect_ex(address.sockaddr)
        if code not in (0, *_NOT_NOW):
            # Told from the loop, as every other failure is.
            loop.at(0, self._lose, OSError(code, os.strerror(code)))
            return
        loop.watch(self._fd, READ | WRITE, self._connecting)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def behind(self) -> bool:
        """Something that was to be sent waits for the other side to take it."""
        return bool(self._out)

    def send(self, data: bytes) -> None:
        """Never raises: a connection that breaks is `lost`, from the loop."""
        if self._closed:
            return
        try:
            if self._tls:
                data = self._tls.encrypt(data) if self._open else self._tls.later(data)
            if self._out or not self._open:
                self._out += data
                return
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._loop.at(0, self._broke, error)
            return
        if sent < len(data):
            self._out += memoryview(data)[sent:]
            self._loop.watch(self._fd, READ | WRITE, self._ready)

    def close(self) -> None:
        """At once, without a word to the user."""
        if not self._closed:
            self._closed = True
            self._patience.cancel()
            if self._fd >= 0:
                self._loop.forget(self._fd)
                self._socket.close()

    def _connecting(self, _: int) -> None:
        code = self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if code:
            self._lose(OSError(code, os.strerror(code)))
            return
        if self._tls:
            self._loop.watch(self._fd, READ, self._shaking)
            self._shaking(0)
        else:
            self._opened()

    def _shaking(self, events: int) -> None:
        """The TLS handshake, turn by turn."""
        assert self._tls
        try:
            if events & READ and not self._tls.feed(self._socket.recv(BLOCK)):
                raise ConnectionResetError(errno.ECONNRESET, "closed in the TLS handshake")
            over = self._tls.shake()
            self._out += self._tls.outgoing()
        except BlockingIOError:
            return
        except OSError as error:  # ssl.SSLError is one
            self._lose(error)
            return
        if over:
            self._opened()
        elif self._out:
            self._flush()

    def _opened(self) -> None:
        self._open = True
        self._patience.cancel()
        if self._tls:
            self._out += self._tls.encrypt(self._tls.waiting)
            self._tls.waiting = b""
        self._loop.watch(self._fd, READ, self._ready)
        self._user.opened()
        if self._out and not self._closed:
            self._flush()

    def _ready(self, events: int) -> None:
        if events & WRITE and self._out:
            self._flush()
        if not self._closed and events & ~WRITE:
            self._read()

    def _read(self) -> bool:
        """False: there is nothing to read now."""
        try:
            data = self._socket.recv(BLOCK)
        except BlockingIOError:
            return False
        except OSError as error:
            self._lose(error)
            return False
        if not data:
            self._lose(None)
            return False
        now_ns = self._loop.now_ns()
        if self._tls:
            try:
                data = self._tls.decrypt(data)
            except OSError as error:
                self._lose(error)
                return False
        if data:
            self._user.received(data, now_ns)
        if self._tls and self._tls.ended:
            # The other side has said that it says no more: it waits for us to go.
            self._lose(None)
        return True

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._broke(error)
            return
        del self._out[:sent]
        wanted = READ | WRITE if self._out else READ
        self._loop.watch(self._fd, wanted, self._ready if self._open else self._shaking)

    def _broke(self, error: OSError) -> None:
        """Nothing more can be sent. What the other side said before it left can be read: it may be the reason (413)."""
        while self._open and not self._closed and self._read():
            pass
        self._lose(error)

    def _lose(self, error: OSError | None) -> None:
        if not self._closed:
            self.close()
            self._user.lost(error)


class _Tls:
    """TLS between two buffers of memory: the same code over any socket."""

    def __init__(self, address: Address) -> None:
        assert address.tls
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = address.tls.wrap_bio(self._in, self._out, server_hostname=address.name)
        self.waiting = b""
        self.ended = False

    def later(self, data: bytes) -> bytes:
        """Keeps what is sent before the handshake is over."""
        self.waiting += data
        return b""

    def feed(self, data: bytes) -> int:
        return self._in.write(data) if data else 0

    def shake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def outgoing(self) -> bytes:
        return self._out.read()

    def encrypt(self, data: bytes) -> bytes:
        if data:
            self._tls.write(data)
        return self._out.read()

    def decrypt(self, data: bytes) -> bytes:
        self._in.write(data)
        plain = bytearray()
        while True:
            try:
                piece = self._tls.read(BLOCK)
            except ssl.SSLWantReadError:
                return bytes(plain)
            except ssl.SSLZeroReturnError:
                piece = b""
            if not piece:
                self.ended = True
                return bytes(plain)
            plain += piece
