"""Header blocks: ours are literals that never change; the server's are decoded once for each that differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hpack import Decoder

# Blocks that differ every time (a proxy's times) must not fill the memory.
_KEPT = 1024
# Our table holds nothing. A server whose own limit is below the default must be told so first (RFC 7541, 4.2), and
# telling the others costs a byte.
_NO_TABLE = b"\x20"


def block(fields: Iterable[tuple[str, str]]) -> bytes:
    """Literals without indexing (RFC 7541, 6.2.2): a request's block depends on nothing that was sent before.

    UnicodeEncodeError for a field that is not ASCII.
    """
    return _NO_TABLE + b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


class Blocks:
    """Decodes the blocks of one connection.

    Our SETTINGS forbid the server a dynamic table. A block then means the same whenever it comes, and is decoded once;
    a server that keeps a table all the same is decoded block by block.
    """

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._known: dict[bytes, Mapping[str, str]] = {}

    def decode(self, data: bytes) -> Mapping[str, str]:
        """Fields by their lower-case names; of one that comes twice the last. HPACKError for a block that is none."""
        return self._known.get(data) or self._decode(data)

    def _decode(self, data: bytes) -> Mapping[str, str]:
        fields = {
            bytes(name).decode("latin-1"): bytes(value).decode("latin-1")
            for name, value in self._decoder.decode(data, raw=True)
        }
        if self._decoder.header_table_size:
            self._known.clear()
        else:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[data] = fields
        return fields


def _text(text: str) -> bytes:
    data = text.encode("ascii")
    return _length(len(data)) + data


def _length(value: int) -> bytes:
    """An integer with a prefix of seven bits (RFC 7541, 5.1); the bit above says that no Huffman code follows."""
    if value < 127:
        return bytes((value,))
    out, value = bytearray((127,)), value - 127
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
