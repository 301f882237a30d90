"""Headers and tokens from flags, files and environment; their values stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.triton import Access, Control, access

SECRET = "s3cret-Value"


def test_flags_win_over_files_and_files_over_the_environment(tmp_path: Path) -> None:
    file, token = tmp_path / "headers", tmp_path / "token"
    file.write_text("# who we are\nX-Team: file\n\nX-Zone: a:b \n")
    token.write_text("from-file\n")
    environment = {"TRITON_CANARY_HEADERS": "x-team: environment\nX-Env: 1", "TRITON_CANARY_TOKEN": "from-environment"}
    found = access(["x-TEAM: flag"], [file], token, environment=environment).headers
    assert found == {"x-TEAM": "flag", "X-Zone": "a:b", "X-Env": "1", "Authorization": "Bearer from-file"}
    assert access(environment=environment).headers["Authorization"] == "Bearer from-environment"
    assert access().headers == {}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([SECRET], "header option 1: is not a header"),
        ([f"two words: {SECRET}"], "header option 1: is not a header"),
        (["ok: 1", f"X-Key: {SECRET}\n{SECRET}"], "header option 2: the value of X-Key is empty, or not printable"),
        (["X-Key:"], "header option 1: the value of X-Key is empty"),
        ([f"X-Key: {SECRET}\u00e9"], "the value of X-Key"),
    ],
)
def test_a_bad_line_names_its_source_and_never_its_value(lines: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        access(lines)
    assert SECRET not in str(caught.value)


def test_a_bad_file_or_variable_names_itself(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text(f"X-Ok: 1\n{SECRET}\n")
    with pytest.raises(UsageError, match="headers, line 2: is not a header") as caught:
        access(header_files=[file])
    assert SECRET not in str(caught.value)
    with pytest.raises(UsageError, match="TRITON_CANARY_HEADERS, line 1: is not a header"):
        access(environment={"TRITON_CANARY_HEADERS": SECRET})
    with pytest.raises(UsageError, match="TRITON_CANARY_TOKEN: holds no bearer token"):
        access(environment={"TRITON_CANARY_TOKEN": f"{SECRET} {SECRET}"})
    for missing in ({"header_files": [tmp_path / "nosuch"]}, {"token_file": tmp_path / "nosuch"}):
        with pytest.raises(UsageError, match="nosuch: cannot be read: No such file"):
            access(**missing)


def test_values_are_in_no_repr_and_in_no_text_that_comes_back() -> None:
    given = Access({"Authorization": f"Bearer {SECRET}", "X-Short": "1"})
    assert SECRET not in f"{given} {given!r}"
    assert given.hide(f"denied: 'Bearer {SECRET}', 100 times, {SECRET}") == "denied: '***', 100 times, ***"


def test_headers_that_cannot_be_sent_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match="the header X-Key: its value") as caught:
        Access({"X-Key": f"{SECRET}\r\nX-Other: 1"})
    assert SECRET not in str(caught.value)
    with pytest.raises(UsageError, match="a header has no name"):
        Access({"X Key": SECRET})


def test_certificates_need_an_encrypted_address_and_must_be_readable(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    for scheme in ("grpc", "http"):
        with pytest.raises(UsageError, match=f"write {scheme}s://"):
            Control(f"{scheme}://127.0.0.1", Access(ca=bad))
        for given, words in (
            (Access(ca=tmp_path / "nosuch"), "nosuch: cannot be read"),
            (Access(ca=bad), "bad.pem: holds no certificate"),
            (Access(cert=bad), "bad.pem: no client certificate in PEM form, or .*bad.pem is not its unencrypted key"),
            (Access(cert=tmp_path / "nosuch"), "nosuch: cannot be read"),
        ):
            with pytest.raises(UsageError, match=words):
                Control(f"{scheme}s://127.0.0.1", given)
    with pytest.raises(UsageError, match=r"bad.pem: a client key without a client certificate"):
        Access(key=bad)


def test_an_address_holds_no_credentials() -> None:
    with pytest.raises(UsageError, match="host: an address holds no credentials") as caught:
        Control(f"http://user:{SECRET}@host")
    assert SECRET not in str(caught.value)
