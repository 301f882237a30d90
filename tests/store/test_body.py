"""A body is counted: what is short or too long is never taken for the whole."""

from __future__ import annotations

import pytest

from harness.errors import StoreError
from harness.store.body import counted


@pytest.mark.parametrize("sizes", [(10,), (1, 9), (3, 3, 4), ()])
@pytest.mark.parametrize("skip", [0, 1, 3, 4, 10])
def test_what_is_passed_on(sizes: tuple[int, ...], skip: int) -> None:
    data = bytes(range(10)) if sizes else b""
    rest = iter(data)
    chunks = [bytes(next(rest) for _ in range(size)) for size in sizes]
    assert b"".join(counted(chunks, len(data), "here", skip)) == data[skip:]


def test_too_little_and_too_much() -> None:
    with pytest.raises(StoreError, match="here: the body broke off after 3 of 4 bytes"):
        list(counted([b"12", b"3"], 4, "here"))
    with pytest.raises(StoreError, match="here: more came than the 4 bytes"):
        list(counted([b"12", b"345"], 4, "here"))
