"""The `models` commands as an operator calls them: exit codes, what is on stdout, what is never shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli import parser
from harness.embedded import EmbeddedServer
from harness.triton import Control
from tests.cli.conftest import Call
from tests.run.conftest import Done
from tests.run.models.conftest import GOOD, MODEL, Clients, repository_in
from tests.waiting import until

triton = pytest.mark.triton
TOKEN = "s3cret-t0ken"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = repository_in(tmp_path_factory.mktemp("models"), {1: {}, GOOD: {}, 3: {"load_fails": True}})
    with EmbeddedServer(folder, tmp_path_factory.mktemp("log") / "server.log") as server:
        yield server.start({MODEL: [1]})


@pytest.fixture
def server(running: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedServer:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with Control(running.grpc_url) as control:
        control.set_versions(MODEL, [1])
    return running


@pytest.fixture
def control(server: EmbeddedServer) -> Iterator[Control]:
    with Control(server.grpc_url) as control:
        yield control


@pytest.fixture
def models(server: EmbeddedServer, call: Call) -> Call:
    """models("load", ...) on that server, with its repository."""
    window = {"load": ["--window", "100ms"]}
    return lambda *args: call(
        "models", *args, "--url", server.grpc_url, "--repository", server.repository, *window.get(args[0], [])
    )


def one_line(done: Done) -> str:
    """The error, which is the last line; what was said before it is progress."""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("triton-canary: "), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return last


def test_every_command_has_an_example() -> None:
    top = parser()._subparsers._group_actions[0].choices["models"]  # type: ignore[union-attr,index]
    commands = top._subparsers._group_actions[0].choices
    assert set(commands) == {"status", "fit", "load", "unload", "retire", "restore", "sync", "publish", "tune"}
    for name, command in commands.items():
        assert f"example:\n  triton-canary models {name}" in command.format_help()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("load", MODEL, "--version", "2"), "--no-disk"),
        (("load", MODEL, "--version", "0", "--no-disk"), "a model version is a whole number from 1"),
        (("load", MODEL, "--no-disk"), "--version --exactly is required"),
        (("unload", MODEL, "--no-disk"), "which is what Triton's own unload does"),
        (("unload", MODEL, "--all", "--version", "1"), "one of them"),
        (("load", MODEL, "--version", "2", "--no-disk", "--header", "no colon"), "is not a header"),
        (("load", MODEL, "--version", "2", "--no-disk", "--max-unavailable", "0"), "max-unavailable"),
        (("load", MODEL, "--version", "2", "--no-disk", "--window", "soon"), "expected a duration"),
        (("retire", MODEL, "--version", "1", "--no-disk", "--remove"), "--repository"),
    ],
)
def test_wrong_usage_sends_nothing(call: Call, args: tuple[str, ...], words: str) -> None:
    done = call("models", *args, "--url", "grpc://127.0.0.1:9")
    assert done.code == 2
    assert words in " ".join(done.stderr.split())
    assert done.stdout == ""


@triton
def test_load_and_unload(models: Call, server: EmbeddedServer, control: Control) -> None:
    done = models("load", MODEL, "--version", GOOD)
    assert (done.code, done.stdout) == (0, f"{server.grpc_url}: tiny 1, 2 READY (was 1)\n"), done.stderr
    done = models("unload", MODEL, "--version", 1)
    assert (done.code, done.stdout) == (0, f"{server.grpc_url}: tiny 2 READY (was 1, 2)\n"), done.stderr
    done = models("restore", "--undo")
    assert done.code == 0
    assert control.loaded(MODEL) == (1, GOOD)
    assert f"{server.grpc_url}: tiny 1, 2 READY, as before the last change" in done.stdout


@triton
def test_whether_it_fits(models: Call, call: Call, server: EmbeddedServer, control: Control) -> None:
    done = models("fit", MODEL, GOOD)
    assert done.code == 0, done.stdout + done.stderr
    assert "tiny: version 2 fits: needs" in done.stdout
    assert "an estimate: what version 1 holds now" in done.stdout
    done = models("fit", MODEL, GOOD, "--needs-memory", "900TiB", "--json")
    assert done.code == 1
    document = json.loads(done.stdout)
    (device,) = document["servers"][0]["devices"]
    assert (document["answer"], device["device"], device["needed_bytes"]) == ("does not fit", "host", 900 * 2.0**40)
    assert device["free_bytes"] < device["total_bytes"] < device["needed_bytes"]
    assert models("fit", MODEL, 7).code == 2
    done = call("models", "fit", MODEL, GOOD, "--url", server.grpc_url, "--needs-memory", "a lot")
    assert done.code == 2
    assert "expected a size above 0 such as 40GiB" in done.stderr
    assert control.loaded(MODEL) == (1,)


@triton
def test_what_does_not_fit_is_not_loaded_unless_it_is_asked_for(models: Call, control: Control) -> None:
    done = models("load", MODEL, "--version", GOOD, "--needs-memory", "900TiB")
    assert done.code == 2
    assert "version 2 does not fit beside what serves" in one_line(done)
    assert "target: {swap: true}" in one_line(done)
    assert control.loaded(MODEL) == (1,)
    done = models("load", MODEL, "--version", GOOD, "--needs-memory", "900TiB", "--even-if-it-does-not-fit")
    assert done.code == 0, done.stderr
    assert control.loaded(MODEL) == (1, GOOD)


@triton
def test_over_http_it_says_beforehand_who_will_wait(models: Call, call: Call, server: EmbeddedServer) -> None:
    assert "WARNING" not in models("load", MODEL, "--version", 1).stderr
    where = ("--url", server.http_url, "--repository", server.repository)
    done = call("models", "load", MODEL, "--version", 1, *where)
    assert done.code == 0
    assert f"WARNING: {server.http_url}: until a load over HTTP ends" in " ".join(done.stderr.split())


@triton
def test_a_missing_version_is_wrong_usage_and_changes_nothing(
    models: Call, server: EmbeddedServer, control: Control
) -> None:
    before = control.index()
    done = models("load", MODEL, "--version", 7)
    assert done.code == 2
    assert "version 7 is not in the repository" in one_line(done)
    assert control.index() == before


@triton
def test_a_failing_load_says_why_and_what_else_it_harms(models: Call, server: EmbeddedServer, control: Control) -> None:
    done = models("load", MODEL, "--version", 3, "--probe-path", "/v2/health/ready")
    assert done.code == 4
    assert "WARNING: --probe-path" in done.stderr
    assert done.stderr.index("WARNING") < done.stderr.index("load of version 3 failed")
    assert "tiny was told to fail in loading" in one_line(done)
    assert control.loaded(MODEL) == (1,)
    done = models("status")
    assert "NOT ready as a whole" in done.stdout
    assert "restart the server" in done.stdout


@triton
def test_unversioned_clients_are_refused(models: Call, server: EmbeddedServer, control: Control) -> None:
    with Clients(server):
        done = models("load", MODEL, "--version", GOOD)
    assert done.code == 2
    assert re.search(r"[\d.]+ requests/s reach version 1 .*--versioned-clients", one_line(done))
    assert control.loaded(MODEL) == (1,)


@triton
def test_the_diff_is_the_result_where_the_file_is_managed_elsewhere(models: Call) -> None:
    done = models("load", MODEL, "--version", GOOD, "--persist-diff")
    assert done.code == 0, done.stderr
    assert "+version_policy: { specific { versions: [1, 2] } }" in done.stdout
    assert "this is the edit" in done.stderr


@triton
def test_status_is_one_json_document(models: Call, server: EmbeddedServer, control: Control) -> None:
    control.set_versions(MODEL, [1, GOOD])
    control.probe(MODEL, GOOD)
    # Triton counts a request just after it has answered it.
    until(lambda: control.counts(MODEL)[GOOD].success == 1, "the probe is counted")
    done = models("status", MODEL, "--json")
    assert done.code == 0, done.stderr
    document = json.loads(done.stdout)
    versions = {v["version"]: v for v in document["servers"][0]["models"][0]["versions"]}
    assert (versions[1]["state"], versions[GOOD]["requests"]) == ("READY", 1)
    assert any("a restart would serve 1" in line for line in document["warnings"])
    assert any("--load-model" in line for line in document["warnings"])


@triton
def test_secrets_are_sent_and_never_shown(models: Call, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    done = models(
        "load", MODEL, "--version", GOOD, "--token-file", tmp_path / "token", "--header", f"triton-key: {TOKEN}"
    )
    assert done.code == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    journals = list((tmp_path / "state").rglob("journal.jsonl"))
    assert len(journals) == 1
    assert all(TOKEN not in journal.read_text() for journal in journals)


@triton
def test_retire(models: Call, server: EmbeddedServer, control: Control) -> None:
    control.set_versions(MODEL, [1, GOOD])
    with Clients(server, version=1):
        done = models("retire", MODEL, "--version", 1, "--window", "5m")
    assert done.code == 2
    assert "still asked" in one_line(done)
    done = models("retire", MODEL, "--version", 1, "--window", "300ms")
    assert done.code == 0, done.stderr
    assert "no request at version 1" in done.stdout
    assert control.loaded(MODEL) == (GOOD,)


@triton
def test_cycles_are_a_table(models: Call, server: EmbeddedServer, control: Control) -> None:
    done = models("load", MODEL, "--version", GOOD, "--cycles", 1, "--server-pid", server.pid)
    assert done.code == 0, done.stderr
    assert re.search(r"^1 +[\d.]+ +[\d.]+ +[\d.]+ +\+[\d.]+", done.stdout, re.MULTILINE), done.stdout
    assert "one load takes" in done.stdout
    assert "too few to say" in done.stdout
    assert control.loaded(MODEL) == (1,)


def test_an_unreachable_server_is_exit_4(call: Call, tmp_path: Path) -> None:
    for command in (("status",), ("load", MODEL, "--version", "2", "--no-disk"), ("restore", MODEL)):
        done = call("models", *command, "--url", "grpc://127.0.0.1:9", "--state", tmp_path / "state")
        assert done.code == (2 if command[0] == "restore" else 4), done.stderr
        assert "127.0.0.1:9" in done.stdout + done.stderr or command[0] == "restore"
        assert "Traceback" not in done.stderr


def test_a_state_that_cannot_be_written_is_named(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = call(
        "models",
        "load",
        MODEL,
        "--version",
        2,
        "--no-disk",
        "--url",
        "grpc://127.0.0.1:9",
        "--state",
        tmp_path / "file/x",
    )
    assert done.code == 4
    assert "--state DIR names another place" in one_line(done)
