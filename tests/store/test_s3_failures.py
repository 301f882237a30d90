"""What S3Store says when the server, the network or the credentials fail: one clear line, and never absence."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import StoreError, UsageError
from harness.store import StoredFile, open_store
from harness.store.s3 import S3Store
from tests.store import faults
from tests.store.conftest import SECRET
from tests.store.faults import Asked, Proxy, Reply

TOKEN = b"<NextContinuationToken>more</NextContinuationToken></ListBucketResult>"


@pytest.fixture
def filled(moto_store: S3Store, tmp_path: Path, proxy: Proxy) -> S3Store:
    """llm/1/x and llm/1/y of 1,000 bytes."""
    (tmp_path / "source").write_bytes(bytes(1000))
    for key in ("llm/1/x", "llm/1/y"):
        moto_store.write(key, tmp_path / "source", "ab" * 32)
    proxy.requests.clear()
    return moto_store


def failing(store: S3Store, tmp_path: Path, doing: str) -> str:
    """What is said when `doing` fails: one line that names bucket and key, and no secret."""
    calls: dict[str, Callable[[], object]] = {
        "listing": lambda: store.list("llm/"),
        "reading": lambda: list(store.read(StoredFile("llm/1/x", 1000))),
        "writing": lambda: store.write("llm/1/z", tmp_path / "source"),
    }
    with pytest.raises(StoreError) as caught:
        calls[doing]()
    said = str(caught.value)
    assert said.startswith(f"{doing} {store.url}/llm/")
    assert "\n" not in said
    assert SECRET not in said
    return said


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (faults.error(500, "InternalError"), "told to (500 InternalError, 2 attempts)"),
        (faults.error(503, "SlowDown", "Reduce\nyour rate"), "Reduce your rate (503 SlowDown, 2 attempts)"),
        (faults.error(403, "AccessDenied"), "access is denied (403 AccessDenied)"),
        (faults.error(400, "ExpiredToken"), "the credentials have expired (400 ExpiredToken)"),
        (faults.error(403, "SignatureDoesNotMatch"), "the credentials are not accepted (403 SignatureDoesNotMatch)"),
        (faults.error(404, "NoSuchBucket"), "there is no such bucket (404 NoSuchBucket)"),
    ],
)
def test_a_refusal_is_one_line(filled: S3Store, proxy: Proxy, tmp_path: Path, fault: faults.Fault, says: str) -> None:
    proxy.fault = fault
    for doing in ("listing", "reading", "writing"):
        assert failing(filled, tmp_path, doing).endswith(f": {says}")
    proxy.fault = None
    assert len(filled.list().files) == 2, "and nothing was stored or lost"


def test_a_bucket_that_is_not_there(open_s3: Callable[..., S3Store], moto_url: str) -> None:
    with pytest.raises(StoreError, match=r"listing s3://none-such/llm/: there is no such bucket"):
        open_s3("s3://none-such", moto_url).list("llm/")


def test_an_endpoint_where_nobody_answers(open_s3: Callable[..., S3Store]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(StoreError, match=f"listing s3://b/: nobody answers at {endpoint}"):
            open_s3("s3://b", endpoint).list()


def test_an_endpoint_that_never_answers(open_s3: Callable[..., S3Store]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        store = open_s3("s3://b", f"http://127.0.0.1:{deaf.getsockname()[1]}", attempts=1, timeout_s=0.3)
        with pytest.raises(StoreError, match="listing s3://b/: nothing came in time"):
            store.list()


def test_no_credentials(
    open_s3: Callable[..., S3Store], moto_url: str, monkeypatch: pytest.MonkeyPatch, no_cloud: None
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="listing s3://b/: no credentials: set AWS_ACCESS_KEY_ID"):
        open_s3("s3://b", moto_url).list()


def test_a_body_that_breaks_off_goes_on_from_there(filled: S3Store, proxy: Proxy) -> None:
    file = filled.list().files["llm/1/x"]
    proxy.fault = faults.cut(600, "llm/1/x")
    with pytest.raises(StoreError, match=r"s3://bucket-\d+/pre/llm/1/x: the body broke off"):
        list(filled.read(file))
    proxy.fault = None
    assert b"".join(filled.read(file, 600)) == bytes(400)
    assert proxy.requests[-1].headers["range"] == "bytes=600-"
    assert proxy.requests[-1].headers["if-match"] == f'"{file.etag}"'


def test_a_server_that_ignores_ranges_is_not_believed(filled: S3Store, proxy: Proxy) -> None:
    file = filled.list().files["llm/1/x"]

    proxy.fault = lambda asked, forward: Reply(200, bytes(1000))
    with pytest.raises(StoreError, match="1000 bytes from 0 on were sent, not the 400 from 600 on"):
        list(filled.read(file, 600))


def test_a_range_that_cannot_be_read_is_not_believed(filled: S3Store, proxy: Proxy) -> None:
    proxy.fault = lambda asked, forward: Reply(206, bytes(400), (("Content-Range", "bytes */1000"),))
    with pytest.raises(StoreError, match=r"400 bytes from \*/1000 on were sent, not the 400 from 600 on"):
        list(filled.read(StoredFile("llm/1/x", 1000), 600))


def test_a_listing_of_which_the_server_cut_the_end(filled: S3Store, proxy: Proxy) -> None:
    proxy.fault = faults.edited((b"<IsTruncated>false", b"<IsTruncated>true"))
    listing = filled.list()
    assert set(listing.files) == {"llm/1/x", "llm/1/y"}
    assert not listing.complete


def test_a_listing_that_counts_more_than_it_names(filled: S3Store, proxy: Proxy) -> None:
    proxy.fault = faults.edited((b"<KeyCount>2<", b"<KeyCount>3<"))
    assert not filled.list().complete


def test_a_listing_that_repeats_its_token_ends(filled: S3Store, proxy: Proxy) -> None:
    first = faults.edited((b"<IsTruncated>false", b"<IsTruncated>true"), (b"</ListBucketResult>", TOKEN))
    pages: list[Reply] = []

    def the_same_again(asked: Asked, forward: faults.Forward) -> Reply:
        pages.append(pages[0] if pages else first(asked, forward))
        return pages[0]

    proxy.fault = the_same_again
    assert not filled.list().complete


def test_a_listing_that_breaks_off_is_an_error(filled: S3Store, proxy: Proxy) -> None:
    proxy.fault = lambda asked, forward: replace(forward(), body=forward().body[:300])
    with pytest.raises(StoreError, match=r"listing s3://bucket-\d+/pre/: Internal Server Error \(500"):
        filled.list()


def test_a_page_of_something_between_is_no_answer(filled: S3Store, proxy: Proxy) -> None:
    proxy.fault = lambda asked, forward: Reply(200, b"<html><p>Sign in first</p></html>")
    with pytest.raises(StoreError, match=r"listing s3://bucket-\d+/pre/: what came is no answer of S3"):
        filled.list()


def test_a_second_page_that_fails_is_an_error(filled: S3Store, proxy: Proxy) -> None:
    first = faults.edited((b"<IsTruncated>false", b"<IsTruncated>true"), (b"</ListBucketResult>", TOKEN))
    second = faults.error(500, "InternalError")
    proxy.fault = lambda asked, forward: (second if "continuation-token" in asked.path else first)(asked, forward)
    with pytest.raises(StoreError, match="500 InternalError"):
        filled.list()


def test_no_checksum_headers_are_sent_that_a_server_could_refuse(filled: S3Store, proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(6 << 20))
    filled.write("llm/1/large", tmp_path / "large")
    assert {asked.method for asked in proxy.requests} == {"PUT", "POST"}
    for asked in proxy.requests:
        assert not [name for name in asked.headers if name.startswith(("x-amz-checksum", "x-amz-sdk-checksum"))]
        assert asked.headers["x-amz-content-sha256"] != "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def test_a_source_that_cannot_be_read(filled: S3Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"writing s3://bucket-\d+/pre/llm/1/z: No such file or directory: \S+none"):
        filled.write("llm/1/z", tmp_path / "none")


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "s3://key:secret@bucket/prefix"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(UsageError, match="an S3 store is s3://BUCKET") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["http://me:secret@127.0.0.1:1", "me:secret@127.0.0.1:1"])
def test_an_endpoint_that_holds_credentials(endpoint: str, monkeypatch: pytest.MonkeyPatch, no_cloud: None) -> None:
    """Every error that names the endpoint would show them."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for given in (endpoint, None):
        with pytest.raises(UsageError, match="credentials come from AWS_ACCESS_KEY_ID or a profile") as caught:
            open_store("s3://bucket", endpoint=given)
        assert "secret" not in str(caught.value)


def test_a_proxy_that_does_not_answer(
    open_s3: Callable[..., S3Store], monkeypatch: pytest.MonkeyPatch, no_cloud: None
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@127.0.0.1:1")
    with pytest.raises(StoreError, match=r"nobody answers at the proxy that HTTP_PROXY or HTTPS_PROXY names$"):
        open_s3("s3://b", "http://example.invalid", attempts=1).list()


def test_a_bucket_that_cannot_be(open_s3: Callable[..., S3Store], moto_url: str) -> None:
    with pytest.raises(StoreError, match=r"listing s3://a b/: S3 takes no such name$"):
        open_s3("s3://a b", moto_url).list()


def test_without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "harness.store.s3")
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    with pytest.raises(UsageError, match=r"needs boto3: pip install 'triton-canary\[s3\]'"):
        open_store("s3://bucket")


def test_the_endpoint_is_for_s3_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--endpoint is for s3"):
        open_store(str(tmp_path), endpoint="http://127.0.0.1:1")
    with pytest.raises(UsageError, match="gs:// is no model store"):
        open_store("gs://bucket")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_endpoint_from_the_environment(
    filled: S3Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, proxy.url)
    store = open_store(filled.url)
    assert set(store.list().files) == {"llm/1/x", "llm/1/y"}
    store.close()
    assert proxy.requests[-1].path.startswith("/bucket-"), "the bucket is in the path, not in the host's name"


def test_a_profile_that_is_not_there(monkeypatch: pytest.MonkeyPatch, no_cloud: None) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UsageError, match=r"s3://bucket: The config profile \(nobody\) could not be found"):
        open_store("s3://bucket")
