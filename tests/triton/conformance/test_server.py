"""The rows on the real Triton, as a user runs them: nothing of the user's is touched, nothing of ours stays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from harness.cli import main
from harness.embedded import EmbeddedServer, build_repository
from harness.triton import Control
from harness.triton.conformance import GROUPS, PREFIX
from tests.triton.conftest import stubs
from tests.waiting import until

pytestmark = pytest.mark.triton
MODEL = "tiny"

# The command line, with a row that looks for a minute at the version that loads.
LONG = """
import sys, time
from harness.cli import main
from harness.triton.conformance.site import Model
until = Model.until
Model.until = lambda *args: (until(*args), time.sleep(60))
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    build_repository(folder, {MODEL: {1: {}}})
    config = folder / MODEL / "config.pbtxt"
    config.write_text(config.read_text().replace("count: 4", "count: 1"))
    return folder


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(repository, tmp_path_factory.mktemp("log") / "triton.log") as running:
        yield running.start({MODEL: [1]})


@pytest.fixture
def arguments(server: EmbeddedServer, repository: Path) -> Iterator[list[str]]:
    """`conformance` on a server that somebody started; the model that serves there is left alone."""
    files = sorted(repository.rglob("*"))
    processes = stubs(server, 1)
    yield [
        "conformance",
        "--url",
        server.http_url,
        "--repository",
        str(repository),
        "--metrics-url",
        server.metrics_url,
    ]
    assert sorted(repository.rglob("*")) == files
    assert stubs(server, 1) == processes
    rows = httpx.post(f"{server.http_url}/v2/repository/index", json={}, trust_env=False).json()
    assert [row["name"] for row in rows if row.get("state") == "READY"] == [MODEL]
    assert httpx.get(f"{server.http_url}/v2/health/ready", trust_env=False).status_code == 200


def only(*names: str) -> list[str]:
    return [argument for name in names for argument in ("--row", name)]


def test_rows_as_documented(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Among them the one that leaves the server's own readiness at 400: it is cured before the row is over."""
    rows = ["version-without-a-folder", "load-that-fails", "metrics-port-looks-alive", "restart"]
    code = main([*arguments, "--mine", "--json", *only(*rows)])
    document = json.loads(capsys.readouterr().out)
    assert code == 0, document
    assert {row["name"]: row["outcome"] for row in document["rows"]} == dict(
        zip(rows, ["same"] * 3 + ["not run"], strict=True)
    )
    assert document["summary"] == {"same": 3, "different": 0, "not_run": 1}
    assert document["server_readiness"] == {"before": 200, "after": 200}
    assert document["rows"][0]["measured"] == {"status": 200, "READY": [1], "v9": None, "v2": "UNAVAILABLE unloaded"}


def test_a_row_that_differs(
    arguments: Sequence[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [replace(row, expected={"status": 200}) if row.name == "empty-set" else row for row in GROUPS[0].rows]
    monkeypatch.setattr(GROUPS[0], "rows", rows)
    assert main([*arguments, "--mine", *only("empty-set")]) == 1
    said = capsys.readouterr().out
    assert "✗ empty-set" in said
    assert 'expected  {"status": 200}' in said
    assert 'measured  {"status": 400, "READY": [1]}' in said
    assert "what rests on it: An empty set is refused" in said


def test_a_server_in_use_is_spared(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--in-use", *only("readiness-after-a-failed-load")]) == 0
    printed = capsys.readouterr()
    assert "not run: the server is in use" in printed.out
    assert "readiness answers 400" in printed.err


def test_a_server_in_use_that_may_have_no_python_backend(
    server: EmbeddedServer, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(repository.rglob("*"))
    with Control(server.grpc_url) as control:
        control.unload(MODEL)
        try:
            assert main(["conformance", "--url", server.http_url, "--repository", str(repository)]) == 2
        finally:
            control.set_versions(MODEL, [1], repository=repository)
    assert "no model that serves there uses the Python backend" in capsys.readouterr().err
    assert sorted(repository.rglob("*")) == files


def test_another_servers_repository(server: EmbeddedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "--url", server.http_url, "--repository", str(tmp_path), "--mine"]) == 4
    assert "is it its repository?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_wrong_port(server: EmbeddedServer, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = server.metrics_url.removesuffix("/metrics")
    assert main(["conformance", "--url", url, "--repository", str(repository), "--mine"]) == 4
    assert "not as a Triton" in capsys.readouterr().err


def test_interrupted_in_the_middle_of_a_load(arguments: Sequence[str], server: EmbeddedServer) -> None:
    """The row's load waits until it is let go, which the row does not do before the signal comes."""
    argv = [sys.executable, "-c", LONG, *arguments, "--mine", *only("readiness-while-a-version-loads")]
    with (
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        Control(server.grpc_url) as watching,
    ):

        def loads() -> bool:
            assert process.poll() is None, process.communicate()
            index = watching.index()
            return any(3 in index.in_state(name, "LOADING") for name in index.models if name.startswith(PREFIX))

        until(loads, "version 3 of the row's model is LOADING", 120)
        process.send_signal(signal.SIGTERM)
        _out, err = process.communicate(timeout=400)
    assert process.returncode == 3, err
    assert "interrupted by SIGTERM" in err


def test_what_a_killed_run_left_is_named(
    arguments: Sequence[str], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = repository / f"{PREFIX}dead-1"
    left.mkdir()
    try:
        assert main([*arguments, "--mine", *only("restart")]) == 0
    finally:
        left.rmdir()
    assert f"left by a run that was killed, unload and remove it: {left.name}" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.alone
def test_every_row_on_the_embedded_server(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["conformance", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code == 0, [row for row in document["rows"] if row["outcome"] == "different"]
    assert [row["name"] for row in document["rows"] if row["outcome"] == "not run"] in ([], ["metrics-of-a-gpu"])
    assert len(document["rows"]) == sum(len(group.rows) for group in GROUPS)


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, why in (
        (["--url", "grpc://127.0.0.1:9"], "the rows are calls over HTTP"),
        (["--url", "http://127.0.0.1:9"], "needs --repository"),
        (["--url", "http://127.0.0.1:9", "--repository", "/nowhere"], "needs --repository"),
    ):
        assert main(["conformance", *argv]) == 2
        assert why in capsys.readouterr().err
