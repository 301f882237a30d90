"""ArtifactoryStore against the emulator (artifactory_emulator.py says what that is worth)."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import StoreError, UsageError
from harness.store import StoredFile, open_store, publish, sync
from harness.store.artifactory import ArtifactoryStore
from tests.store.artifactory_emulator import ArtifactoryEmulator, Item
from tests.store.folders import CONFIG, contents, noise, partial_versions, put

TOKEN = "mine-alone-0123456789abcdef"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArtifactoryEmulator]:
    for name in ("ARTIFACTORY_TOKEN", "ARTIFACTORY_USER", "ARTIFACTORY_PASSWORD", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with ArtifactoryEmulator() as running:
        yield running


@pytest.fixture
def open_artifactory() -> Iterator[Callable[[str], ArtifactoryStore]]:
    """A store that does not wait between its attempts; closed after the test."""
    opened: list[ArtifactoryStore] = []

    def open_one(url: str, timeout_s: float = 60.0) -> ArtifactoryStore:
        opened.append(ArtifactoryStore(url, attempts=3, timeout_s=timeout_s, pause=lambda seconds: None))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(emulator: ArtifactoryEmulator, open_artifactory: Callable[[str], ArtifactoryStore]) -> ArtifactoryStore:
    """The folder `team/pre` of the repository, with a model of two versions and neighbours that are not its own."""
    for path in ("llm/1/x", "llm/1/sub/y", "llm/20/x", "llm/config.pbtxt", "other/1/x"):
        emulator.put(f"team/pre/{path}", path.encode())
    for path in ("team/prefix/llm/1/x", "readme"):
        emulator.put(path, b"not this")
    return open_artifactory(f"{emulator.url}/team/pre")


def test_a_listing_has_sizes_and_hashes(store: ArtifactoryStore, emulator: ArtifactoryEmulator) -> None:
    listing = store.list()
    assert listing.complete
    assert set(listing.files) == {"llm/1/x", "llm/1/sub/y", "llm/20/x", "llm/config.pbtxt", "other/1/x"}
    item = Item("", b"llm/1/x")
    assert listing.files["llm/1/x"] == StoredFile("llm/1/x", 7, item.sha1, item.sha256)
    assert set(store.list("llm/1/").files) == {"llm/1/x", "llm/1/sub/y"}
    assert set(store.list("llm/").files) == {"llm/1/x", "llm/1/sub/y", "llm/20/x", "llm/config.pbtxt"}
    assert store.list("none/").files == {}
    assert emulator.queries[1] == (
        'items.find({"repo": "models", "type": "file", "$or": [{"path": "team/pre/llm/1"}, '
        '{"path": {"$match": "team/pre/llm/1/*"}}]})'
        '.include("repo","path","name","size","actual_sha1","sha256").sort({"$asc":["path","name"]})'
    )


def test_the_whole_repository(emulator: ArtifactoryEmulator, open_artifactory: Callable[..., ArtifactoryStore]) -> None:
    emulator.put("readme", b"1")
    emulator.put("llm/1/x", b"2")
    assert set(open_artifactory(emulator.url).list().files) == {"readme", "llm/1/x"}


def test_names_that_mean_something_to_aql_or_to_a_url(
    emulator: ArtifactoryEmulator, open_artifactory: Callable[..., ArtifactoryStore], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"data")
    for odd in ('a"b', "a*b", "a?b", "a b", "a;b=c", "a%20b", "ü#1"):
        store = open_artifactory(f"{emulator.url}/pre")
        store.write(f"{odd}/1/{odd}", tmp_path / "file")
        listing = store.list(f"{odd}/")
        assert set(listing.files) == {f"{odd}/1/{odd}"}, odd
        assert b"".join(store.read(listing.files[f"{odd}/1/{odd}"])) == b"data"


def test_a_trimmed_listing_is_continued(store: ArtifactoryStore, emulator: ArtifactoryEmulator) -> None:
    emulator.trim = 2
    listing = store.list()
    assert listing.complete
    assert len(listing.files) == 5
    assert [query.endswith(end) for query, end in zip(emulator.queries, (")", ".offset(2)", ".offset(4)"), strict=True)]


def test_a_listing_that_stays_trimmed_is_not_complete(store: ArtifactoryStore, emulator: ArtifactoryEmulator) -> None:
    emulator.trim, emulator.paging = 2, False
    listing = store.list()
    assert not listing.complete
    assert len(listing.files) == 2


def test_an_empty_folder_is_none_and_an_unknown_repository_an_error(
    store: ArtifactoryStore, emulator: ArtifactoryEmulator, open_artifactory: Callable[..., ArtifactoryStore]
) -> None:
    assert store.list("none/").files == {}
    emulator.items.clear()
    with pytest.raises(StoreError, match=r"looking for the repository of \S+/nobody: it is not in the store \(404\)"):
        open_artifactory(emulator.url.replace("/models", "/nobody")).list()


def test_reading_from_anywhere(store: ArtifactoryStore, emulator: ArtifactoryEmulator) -> None:
    emulator.put("team/pre/llm/1/x", noise(3 << 20))
    file = store.list().files["llm/1/x"]
    for offset in (0, 1, 2 << 20, (3 << 20) - 1, 3 << 20):
        assert b"".join(store.read(file, offset)) == noise(3 << 20)[offset:]
    emulator.no_ranges = True
    assert b"".join(store.read(file, 2 << 20)) == noise(3 << 20)[2 << 20 :]


def test_a_body_that_breaks_off(store: ArtifactoryStore, emulator: ArtifactoryEmulator) -> None:
    file = store.list().files["llm/1/x"]
    emulator.cut["team/pre/llm/1/x"] = 3
    with pytest.raises(StoreError, match=r"reading \S+/team/pre/llm/1/x: the body broke off"):
        list(store.read(file))
    emulator.cut.clear()
    assert b"".join(store.read(file, 3)) == b"/1/x"


def test_an_item_that_changed(store: ArtifactoryStore, emulator: ArtifactoryEmulator) -> None:
    file = store.list().files["llm/1/x"]
    emulator.put("team/pre/llm/1/x", b"another")
    for offset in (0, 3):
        with pytest.raises(StoreError, match=r"reading \S+/llm/1/x: it changed in the store since it was listed"):
            list(store.read(file, offset))
    emulator.put("team/pre/llm/1/x", b"")
    with pytest.raises(StoreError, match="it changed in the store since it was listed"):
        list(store.read(file, 3))


def test_a_hash_that_the_listing_left_out_is_asked_for(store: ArtifactoryStore, emulator: ArtifactoryEmulator) -> None:
    emulator.vouches = False
    file = store.list().files["llm/1/x"]
    assert file.sha256 == ""
    assert store.sha256(file) == Item("", b"llm/1/x").sha256
    emulator.put("team/pre/llm/1/x", b"another")
    assert store.sha256(file) == "", "the hash of another content is not this one's"


def test_a_written_file_has_its_checksum_checked(
    store: ArtifactoryStore, emulator: ArtifactoryEmulator, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"data")
    store.write("llm/2/x", tmp_path / "file")
    assert emulator.items["team/pre/llm/2/x"].data == b"data"
    assert emulator.requests[-1][2]["x-checksum-sha256"] == Item("", b"data").sha256
    with pytest.raises(StoreError, match=r"writing \S+/llm/2/y: the store refused the file: its checksum differs"):
        store.write("llm/2/y", tmp_path / "file", "ab" * 32)
    assert "team/pre/llm/2/y" not in emulator.items
    with pytest.raises(StoreError, match=r"writing \S+/llm/2/y: No such file"):
        store.write("llm/2/y", tmp_path / "none")


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "the credentials are not accepted: set ARTIFACTORY_TOKEN, or ARTIFACTORY_USER and ARTIFACTORY_PASSWORD"),
        (403, "access is denied"),
        (404, "it is not in the store"),
        (500, "the store failed"),
    ],
)
@pytest.mark.parametrize("doing", ["listing", "reading", "writing"])
def test_a_refusal_is_one_line(
    emulator: ArtifactoryEmulator,
    open_artifactory: Callable[[str], ArtifactoryStore],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    status: int,
    says: str,
    doing: str,
) -> None:
    monkeypatch.setenv("ARTIFACTORY_TOKEN", TOKEN)
    store = open_artifactory(emulator.url)
    emulator.fails["*"] = status, -1
    (tmp_path / "file").write_bytes(b"data")
    calls: dict[str, Callable[[], object]] = {
        "listing": lambda: store.list("llm/1/x"),
        "reading": lambda: list(store.read(StoredFile("llm/1/x", 10))),
        "writing": lambda: store.write("llm/1/x", tmp_path / "file"),
    }
    with pytest.raises(StoreError) as caught:
        calls[doing]()
    assert str(caught.value) == f"{doing} {emulator.url}/llm/1/x: {says} ({status})"
    assert len(emulator.requests) == 1, "what will not pass is not asked again"


@pytest.mark.parametrize("doing", ["listing", "reading", "writing"])
def test_what_passes_is_tried_again(
    store: ArtifactoryStore, emulator: ArtifactoryEmulator, tmp_path: Path, doing: str
) -> None:
    file = store.list().files["llm/1/x"]
    (tmp_path / "file").write_bytes(b"data")
    calls: dict[str, Callable[[], object]] = {
        "listing": store.list,
        "reading": lambda: list(store.read(file)),
        "writing": lambda: store.write("llm/3/x", tmp_path / "file"),
    }
    emulator.fails["*"] = 503, 2
    calls[doing]()
    emulator.fails["*"] = 429, 3
    with pytest.raises(StoreError, match=r"the store failed \(429, 3 attempts\)"):
        calls[doing]()
    if doing == "writing":
        assert emulator.items["team/pre/llm/3/x"].data == b"data", "the whole file again, not what was left of it"


def test_who_asks(
    emulator: ArtifactoryEmulator,
    open_artifactory: Callable[[str], ArtifactoryStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emulator.token = TOKEN
    with pytest.raises(StoreError, match="the credentials are not accepted"):
        open_artifactory(emulator.url).list()
    monkeypatch.setenv("ARTIFACTORY_TOKEN", TOKEN)
    assert open_artifactory(emulator.url).list().complete
    monkeypatch.delenv("ARTIFACTORY_TOKEN")
    monkeypatch.setenv("ARTIFACTORY_USER", "me")
    monkeypatch.setenv("ARTIFACTORY_PASSWORD", "pässword")
    emulator.token, emulator.user = "", ("me", "pässword")
    assert open_artifactory(emulator.url).list().complete


def test_a_broken_token_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTORY_TOKEN", f"{TOKEN}\n")
    with pytest.raises(UsageError, match="ARTIFACTORY_TOKEN holds a character") as caught:
        open_store("artifactory+http://127.0.0.1:1/artifactory/models")
    assert TOKEN not in str(caught.value)


def test_nobody_answers(open_artifactory: Callable[..., ArtifactoryStore]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/artifactory"
        with pytest.raises(StoreError, match=f"listing .*: nobody answers at {url}"):
            open_artifactory(f"artifactory+{url}/models").list()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/artifactory"
        with pytest.raises(StoreError, match=r"listing .*: no answer in time"):
            open_artifactory(f"artifactory+{url}/models", timeout_s=0.1).list()


def test_something_else_answers(store: ArtifactoryStore, emulator: ArtifactoryEmulator) -> None:
    emulator.rows = lambda query: ["not", "a", "listing"]  # type: ignore[assignment,method-assign,return-value]
    with pytest.raises(StoreError, match="the reply is not JSON, so this is not an Artifactory"):
        store.list()
    emulator.rows = lambda query: {"results": [{"name": "x"}]}  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="the reply is not what AQL answers"):
        store.list()


@pytest.mark.parametrize(
    "url",
    [
        "artifactory+https://host/models",
        "artifactory+https://host/artifactory/",
        "artifactory+https:///artifactory/models",
        "artifactory+https://me:secret@host/artifactory/models",
        "artifactory+https://host/artifactory/models?token=secret",
    ],
)
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(UsageError, match=re.escape("an Artifactory store is artifactory+https://HOST/")) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_certificates_named_for_requests_hold_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bundle.pem").write_text("none")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "bundle.pem"))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with pytest.raises(UsageError, match=r"REQUESTS_CA_BUNDLE: \S+ holds no certificates"):
        open_store("artifactory+https://host/artifactory/models")


def test_published_then_synced(store: ArtifactoryStore, emulator: ArtifactoryEmulator, tmp_path: Path) -> None:
    emulator.items.clear()
    built = tmp_path / "build" / "llm"
    put(built, {"config.pbtxt": CONFIG})
    put(built / "1", {"model.plan": noise(2 << 20), "deep/er/weights.bin": noise(1000, 1)})
    publish(store, built / "1", "llm", 1)
    repository = tmp_path / "models"
    repository.mkdir()
    assert sync(store, repository, staging=tmp_path / "staging").added == (("llm", 1),)
    assert not partial_versions(repository)
    arrived = {path: data for path, data in contents(repository).items() if "manifest" not in path}
    assert arrived == {f"llm/{path}": data for path, data in contents(built).items()}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("artifactory+https://host:port/artifactory/r", "Invalid port"),
        ("artifactory+https://[::1/artifactory/r", "IPv6"),
    ],
)
def test_a_url_that_cannot_be_read(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_store(url)


def test_certificates_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/none/such")
    with pytest.raises(UsageError, match="SSL_CERT_FILE or SSL_CERT_DIR: No such file"):
        open_store("artifactory+https://host/artifactory/r")


def test_what_goes_again_is_not_counted_twice(
    emulator: ArtifactoryEmulator, open_artifactory: Callable[[str], ArtifactoryStore], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(noise(3 << 20))
    emulator.fails["*/x"] = (503, 1)
    sent: list[int] = []
    open_artifactory(emulator.url).write("llm/1/x", tmp_path / "file", sent=sent.append)
    assert sum(sent) == 3 << 20
    assert min(sent) < 0
