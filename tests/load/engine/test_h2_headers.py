"""Header blocks, against hpack's own reading and writing of them."""

from __future__ import annotations

import hpack
import pytest

from harness.load.engine.h2_headers import Blocks, block


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 255, 300, 5000])
def test_our_blocks_are_read_by_hpack(length: int) -> None:
    fields = [(":path", "/x"), ("name", "v" * length)]
    assert hpack.Decoder().decode(block(fields)) == fields


def test_a_request_leaves_nothing_in_the_servers_table() -> None:
    decoder = hpack.Decoder()
    decoder.decode(block([(":path", "/x"), ("authorization", "secret")]))
    assert not decoder.header_table.dynamic_entries


def test_a_server_without_a_table_is_told_before_the_first_field_that_ours_is_empty() -> None:
    """It has announced a size below the default of 4096: RFC 7541, 4.2."""
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    for _ in range(2):
        assert decoder.decode(block([(":path", "/x"), ("te", "trailers")])) == [(":path", "/x"), ("te", "trailers")]


def test_a_block_of_a_server_without_a_table_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    first = encoder.encode([(":status", "200"), ("x", "y")])
    second = encoder.encode([("grpc-status", "0")])
    blocks = Blocks()
    assert blocks.decode(first) == {":status": "200", "x": "y"}
    assert blocks.decode(second) == {"grpc-status": "0"}
    monkeypatch.setattr(hpack.Decoder, "decode", None)
    assert blocks.decode(first)["x"] == "y"
    assert blocks.decode(second) == {"grpc-status": "0"}


def test_a_server_that_keeps_a_table_is_followed() -> None:
    encoder, blocks = hpack.Encoder(), Blocks()
    for value in ("a", "b", "a", "c", "a"):
        fields = [(":status", "200"), ("x", value)]
        assert blocks.decode(encoder.encode(fields)) == dict(fields)


def test_blocks_that_always_differ_do_not_fill_the_memory() -> None:
    encoder, blocks = hpack.Encoder(), Blocks()
    encoder.header_table_size = 0
    for number in range(5000):
        assert blocks.decode(encoder.encode([("x", str(number))])) == {"x": str(number)}
    assert len(blocks._known) <= 1024


def test_a_block_that_is_none() -> None:
    with pytest.raises(hpack.HPACKError):
        Blocks().decode(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
