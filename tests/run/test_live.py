"""The page of a run under way: what it shows, who gets it, and that its process never outlives the run."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.cli import main
from harness.recording import write_observations
from harness.run.folder import RunFolder
from harness.run.journal import Journal
from harness.run.live import newest as newest_module
from harness.run.live import seen, serving
from harness.run.live.newest import Newest, Pace
from harness.run.live.serving import Server
from tests.processes import gone
from tests.run.browser import PATIENCE_S, Client
from tests.run.under_way import UnderWay


@pytest.fixture
def run(tmp_path: Path) -> Iterator[UnderWay]:
    under_way = UnderWay(tmp_path)
    yield under_way
    under_way.close()


@pytest.fixture
def newest() -> Newest:
    return Newest()


@pytest.fixture
def server(newest: Newest) -> Iterator[Server]:
    listening = socket.create_server(("127.0.0.1", 0))
    with Server(listening, newest) as server:
        serving_it = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving_it.start()
        yield server
        server.shutdown()
        serving_it.join()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    asking = Client(server.socket.getsockname()[1])
    yield asking
    asking.connection.close()


def test_the_page_says_where_the_run_is_and_that_there_is_no_verdict_yet(run: UnderWay) -> None:
    with run.journal.action("server.start", "embedded"):
        first = seen.page(run.path)
    run.begin()
    begun = seen.page(run.path)
    run.ask(150)
    asked = seen.page(run.path)

    assert "Under way: server.start (embedded)." in first
    assert "Stage 1 of 2, paired: 0 s of 90 s." in begun
    assert "Stage 1 of 2, paired: 15 s of 90 s." in asked
    for page in (first, begun, asked):
        assert "<title>running: tiny-canary</title>" in page
        assert "There is no verdict before the end" in page
        assert "did not finish" not in page
        assert "connect-src 'self'" in page
    assert "<small>so far</small>" in asked
    assert "150" in asked


def test_an_operation_shows_what_it_has_done_so_far(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "repo-sync", {"scenario": {"name": "repo-sync"}})
    write_observations(folder.path, {"format": 1, "kind": "repo-sync", "finished": False})
    with Journal(folder.path).action("sync", "/models", wanted={"round": "first"}):
        page = seen.page(folder.path)

    assert "<title>running: repo-sync</title>" in page
    assert "Under way: sync (/models)." in page
    assert "did not come to its end" not in page


def test_a_folder_in_which_nothing_changes_is_told_from_one_that_grows(run: UnderWay) -> None:
    run.begin()
    before = seen.changed(run.path)
    assert seen.changed(run.path) == before
    run.ask(1)
    assert seen.changed(run.path) != before


def test_nothing_is_drawn_while_nobody_looks(newest: Newest) -> None:
    wished = threading.Event()
    drawing = threading.Thread(target=lambda: (newest.await_wish(), wished.set(), newest.put(b"page", "")))
    drawing.start()
    assert not wished.wait(0.2)
    page = newest.other_than(0, PATIENCE_S)
    drawing.join()
    assert page is not None
    assert page.html == b"page"


def test_a_page_takes_a_fifth_of_a_core_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        """Drawing takes 3 s of CPU and 5 s of time."""

        now, cpu = 0.0, 0.0

        def monotonic(self) -> float:
            return self.now

        def process_time(self) -> float:
            return self.cpu

        def sleep(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(newest_module, "time", clock)
    pace = Pace()
    for _ in range(10):
        pace.wait()
        clock.now, clock.cpu = clock.now + 5.0, clock.cpu + 3.0
        pace.took()
    pace.wait()
    assert clock.cpu / clock.now <= Pace.SHARE


def test_the_next_page_is_held_back_until_there_is_one(newest: Newest, client: Client) -> None:
    newest.put(b"<main>1</main>", "It runs: 100 %")
    status, headers, text = client.ask()
    assert (status, text, headers["X-Words"]) == (200, "<main>1</main>", "It%20runs%3A%20100%20%25")
    assert headers["Cache-Control"] == "no-store"
    assert "X-Final" not in headers

    def draw() -> None:
        newest.await_wish()
        newest.put(b"<main>2</main>", "It runs")

    later = threading.Thread(target=draw, daemon=True)
    later.start()
    status, headers, text = client.ask(If_None_Match=headers["ETag"])
    assert (status, text) == (200, "<main>2</main>")
    later.join()


def test_where_none_comes_it_says_so(newest: Newest, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    newest.put(b"<main>1</main>", "It runs")
    monkeypatch.setattr(serving, "HOLD_S", 0.05)
    assert client.ask(If_None_Match='"1"')[0] == 304
    assert client.ask()[0] == 200


def test_whoever_looks_has_the_last_page_before_it_ends(newest: Newest, server: Server, client: Client) -> None:
    newest.put(b"<main>1</main>", "It runs")
    newest.put(b"<main>1</main>", "It runs")  # no news
    assert client.ask()[1]["ETag"] == '"1"'
    assert not server.settled(0.05)  # it looks, and has not had the end
    newest.put(b"<main>verdict</main>", "It is over", final=True)
    newest.put(b"<main>late</main>", "It runs")
    status, headers, text = client.ask(If_None_Match='"1"')
    assert (status, text, headers["X-Final"]) == (200, "<main>verdict</main>", "true")
    assert server.settled(PATIENCE_S)


def test_connections_are_bounded(newest: Newest, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    newest.put(b"<main>1</main>", "It runs")
    assert client.ask()[0] == 200
    monkeypatch.setattr(serving, "MOST_THREADS", 0)
    with pytest.raises(ConnectionError):
        Client(client.port).ask()
    assert client.ask()[0] == 200  # who is there already is served


def test_a_browser_that_was_closed_is_not_waited_for(newest: Newest, server: Server, client: Client) -> None:
    newest.put(b"<main>1</main>", "It runs")
    client.ask()
    client.connection.close()
    assert server.settled(PATIENCE_S)


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:1234", 200), ("LOCALHOST", 200), ("evil.example:80", 403), ("127.0.0.1.evil.example", 403), ("", 403)],
)
def test_only_this_machine_s_own_names_lead_to_it(newest: Newest, client: Client, host: str, status: int) -> None:
    newest.put(b"secret", "It runs")
    for method in ("GET", "HEAD"):
        answer = client.ask(method=method, Host=host)
        assert answer[0] == status
        assert ("secret" in answer[2]) == (status == 200 and method == "GET")
        assert "Access-Control-Allow-Origin" not in answer[1]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/run.json", 404),
        ("GET", "/../run.json", 404),
        ("GET", "/?x=1", 404),
        ("POST", "/", 501),
        ("DELETE", "/", 501),
    ],
)
def test_there_is_one_page_to_read_and_nothing_else(client: Client, method: str, path: str, status: int) -> None:
    assert client.ask(path, method)[0] == status


PARENT = """
import sys, time
from pathlib import Path
from harness.run.live import LivePage
live = LivePage()
live.begin(Path(sys.argv[1]))
print(live.address, live._process.pid, flush=True)
if sys.stdin.readline() == "end\\n":
    live.end()
    print(live.note, flush=True)
"""


@pytest.fixture
def parent(run: UnderWay) -> Iterator[tuple[subprocess.Popen[str], int, psutil.Process]]:
    """A process with a live page of `run`: itself, the page's port, and the page's process."""
    command = [sys.executable, "-c", PARENT, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address, pid = process.stdout.readline().split()
        port = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", address)
        assert port
        yield process, int(port[1]), psutil.Process(int(pid))
        process.kill()


def ended(process: psutil.Process) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not gone(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    return gone(process)


def test_the_page_grows_and_ends_with_the_report(
    parent: tuple[subprocess.Popen[str], int, psutil.Process], run: UnderWay
) -> None:
    process, port, page = parent
    assert page.nice() >= min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)
    client = Client(port)
    first, text = client.next_page()
    assert "No load yet" in text
    run.begin()
    run.ask(40)
    second, text = client.next_page(first["ETag"])
    assert "of 90 s" in text

    (run.path / "report.html").write_text("<main>promote</main>")
    assert process.stdin
    assert process.stdout
    process.stdin.write("end\n")
    process.stdin.flush()
    final = second
    while "X-Final" not in final:
        final, text = client.next_page(final["ETag"])
    client.connection.close()
    assert text == "<main>promote</main>"
    assert process.stdout.readline() == "\n"  # nothing to complain about
    assert ended(page)
    assert not (run.path / "live.log").exists()


def test_the_page_s_process_ends_with_a_killed_run(parent: tuple[subprocess.Popen[str], int, psutil.Process]) -> None:
    process, port, page = parent
    client = Client(port)
    assert client.ask("/nothing")[0] == 404  # it is up
    assert not any("matplotlib" in one.path for one in page.memory_maps())  # nobody looks, nothing is loaded to draw
    process.send_signal(signal.SIGKILL)
    assert ended(page)
    client.connection.close()


def test_a_run_is_told_of_a_page_that_ended_before_it(
    parent: tuple[subprocess.Popen[str], int, psutil.Process],
) -> None:
    process, port, page = parent
    client = Client(port)
    assert client.ask("/nothing")[0] == 404
    page.kill()
    assert ended(page)
    said, _ = process.communicate("end\n", timeout=PATIENCE_S)
    assert said == "the live page ended before the run (exit code -9): see live.log\n"
    client.connection.close()


def test_a_port_that_is_taken_is_told_before_anything_is_started(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["run", str(scenario), "--out", str(tmp_path / "out"), "--live", str(port)]) == 2
    expected = f"triton-canary: --live {port}: no page can be served at 127.0.0.1:{port}: Address already in use"
    assert capsys.readouterr().err.splitlines() == [expected]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("port", ["65536", "-1", "fp8-canary"])
def test_what_is_no_port_is_named(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", "tiny-canary", f"--live={port}"])
    assert f"--live: {port}: expected a port" in capsys.readouterr().err
