"""The servers behind one name, and the waves in which they are changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import Unreachable, UsageError
from harness.triton import Access, addresses, named, waves


def test_a_name_with_several_addresses_is_several_servers() -> None:
    found = {"triton": ["10.0.0.10", "10.0.0.9", "fd00::1", "10.0.0.10"], "one": ["10.0.0.1"]}

    def resolve(host: str, port: int) -> list[str]:
        assert port == 9001
        return found[host]

    assert addresses("grpc://triton:9001", resolve) == (
        "grpc://10.0.0.9:9001",
        "grpc://10.0.0.10:9001",
        "grpc://[fd00::1]:9001",
    )
    assert addresses("https://triton:9001/base", resolve)[0] == "https://10.0.0.9:9001/base"
    assert addresses("grpc://one:9001", resolve) == ("grpc://one:9001",)


def test_the_systems_own_names() -> None:
    assert addresses("grpc://127.0.0.1") == ("grpc://127.0.0.1",)
    assert addresses("http://[::1]:8000") == ("http://[::1]:8000",)
    assert any(url in ("grpc://localhost", "grpc://127.0.0.1:8001") for url in addresses("grpc://localhost"))
    with pytest.raises(Unreachable, match=r"nosuch\.invalid: has no address"):
        addresses("grpc://nosuch.invalid")
    with pytest.raises(UsageError):
        addresses("triton")


def test_the_name_stays_the_one_to_verify() -> None:
    access = Access(ca=Path("ca.pem"))
    assert named(access, "grpcs://triton:8001").server_name == "triton"
    assert named(Access(server_name="other"), "grpcs://triton:8001").server_name == "other"
    assert named(access, "grpc://triton:8001") is access


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [(1, [1] * 7), ("3", [3, 3, 1]), ("25%", [1] * 7), ("50%", [3, 3, 1]), ("100%", [7]), (9, [7]), ("1%", [1] * 7)],
)
def test_waves(limit: str | int, sizes: list[int]) -> None:
    urls = [f"grpc://server-{number}" for number in range(7)]
    found = waves(urls, limit)
    assert [len(wave) for wave in found] == sizes
    assert [url for wave in found for url in wave] == urls


@pytest.mark.parametrize("limit", [0, -1, "0%", "101%", "half", "", "1.5"])
def test_waves_of_no_size(limit: str | int) -> None:
    with pytest.raises(UsageError, match="max-unavailable is a number of servers from 1, or a share"):
        waves(["grpc://server"], limit)


def test_no_servers_no_waves() -> None:
    assert waves([], "25%") == []
