"""Starting and stopping a real Triton: ports, failures, and what is left afterwards."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.embedded import server as server_module
from harness.embedded.supervisor import SHARED_MEMORY
from harness.errors import LoadFailed, ServerDied, UsageError, VersionMissing
from tests.processes import family, gone
from tests.waiting import until

pytestmark = pytest.mark.triton


@pytest.fixture
def models(tmp_path: Path) -> Path:
    build_repository(tmp_path / "models", {"tiny": {1: "fp16", 2: {"load_fails": True}, 3: "slow"}})
    return tmp_path / "models"


def left_in_shared_memory(server: EmbeddedServer) -> list[Path]:
    return list(SHARED_MEMORY.glob(f"{server._shm}*"))


def test_it_serves_what_was_asked_for_and_leaves_nothing(models: Path, tmp_path: Path) -> None:
    server = EmbeddedServer(models, tmp_path / "run" / "triton.log")
    assert not server.alive
    with server.start({"tiny": [1, 3]}):
        assert server.alive
        server.check()
        assert server._get("/v2/models/tiny/versions/1/ready") == 200
        assert server._get("/v2/models/tiny/versions/2/ready") != 200
        assert server._get("/v2/models/tiny/versions/3/ready") == 200
        assert server.metrics_url.endswith("/metrics")
        assert psutil.Process(server.pid).name() == "tritonserver"
        processes = family(server._supervisor.pid if server._supervisor else -1)
        assert len(processes) > 2
        assert left_in_shared_memory(server)
    assert all(gone(process) for process in processes)
    assert not left_in_shared_memory(server)
    assert not server.alive
    server.stop()
    assert "successfully loaded 'tiny'" in (tmp_path / "run" / "triton.log").read_text()


def test_taken_ports_are_tried_again(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = server_module.free_ports
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        one.listen()
        two.listen()
        http, grpc, metrics = real(3)
        answers = iter([(one.getsockname()[1], grpc, metrics), (http, two.getsockname()[1], metrics)])
        monkeypatch.setattr(server_module, "free_ports", lambda count: next(answers, None) or real(count))
        with EmbeddedServer(models, tmp_path / "triton.log") as server:
            server.start({"tiny": [1]})
            assert server._get("/v2/models/tiny/versions/1/ready") == 200
            assert next(answers, None) is None, "both taken ports were tried"


def test_somebody_else_who_answers_at_its_port_is_not_taken_for_it(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Live(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    real = server_module.free_ports
    with ThreadingHTTPServer(("127.0.0.1", 0), Live) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        _, grpc, metrics = real(3)
        answers = iter([(stranger.server_port, grpc, metrics)])
        monkeypatch.setattr(server_module, "free_ports", lambda count: next(answers, None) or real(count))
        with EmbeddedServer(models, tmp_path / "triton.log") as server:
            server.start({"tiny": [1]})
            assert server.http_url != f"http://127.0.0.1:{stranger.server_port}"
            assert server._get("/v2/models/tiny/versions/1/ready") == 200
        stranger.shutdown()


def test_a_server_that_cannot_start_says_why(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = EmbeddedServer._arguments
    monkeypatch.setattr(EmbeddedServer, "_arguments", lambda self: [*real(self), "--no-such-option"])
    server = EmbeddedServer(models, tmp_path / "triton.log")
    with pytest.raises(ServerDied, match="no-such-option"):
        server.start({"tiny": [1]})
    assert not server.alive


def test_a_version_that_fails_to_load_says_why_and_leaves_nothing(models: Path, tmp_path: Path) -> None:
    server = EmbeddedServer(models, tmp_path / "triton.log")
    with pytest.raises(LoadFailed, match=r"versions 1, 2 failed: .*tiny was told to fail in loading") as caught:
        server.start({"tiny": [1, 2]})
    assert "\n" not in str(caught.value)
    assert not server.alive
    until(lambda: gone_pid(server.pid), "Triton is gone")
    assert not left_in_shared_memory(server)


def test_wrong_wishes_start_nothing(models: Path, tmp_path: Path) -> None:
    with pytest.raises(VersionMissing, match=r"tiny: version 9 is not in .*present: 1, 2, 3"):
        EmbeddedServer(models, tmp_path / "triton.log").start({"tiny": [1, 9]})
    with pytest.raises(VersionMissing, match="llama: is not in the repository"):
        EmbeddedServer(models, tmp_path / "triton.log").start({"llama": [1]})
    assert not (tmp_path / "triton.log").exists()


def test_starting_twice_is_refused(server: EmbeddedServer) -> None:
    with pytest.raises(UsageError, match="started already"):
        server.start({})
    assert server.alive


def test_leftovers_of_the_dead_are_swept_those_of_the_living_are_not() -> None:
    alive = SHARED_MEMORY / f"triton_canary_{psutil.Process().pid}_00aa_x"
    dead = SHARED_MEMORY / "triton_canary_4194399_00aa_x"  # beyond the kernel's largest process id
    for file in (alive, dead):
        file.write_bytes(b"")
    try:
        server_module.sweep_shared_memory()
        assert alive.exists()
        assert not dead.exists()
    finally:
        alive.unlink()
        dead.unlink(missing_ok=True)


def gone_pid(pid: int) -> bool:
    try:
        return gone(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


def test_its_last_words_are_those_of_a_lost_gpu_and_not_that_there_is_none(tmp_path: Path) -> None:
    log = tmp_path / "triton.log"
    log.write_text(
        'E1201 00:31:55.602414 1 server.cc:241] "CudaDriverHelper has not been initialized."\n'
        "Error: Failed to initialize NVML\n"
        "E1201 00:31:56.0 1 model_lifecycle.cc:641] failed to load 'llama': RuntimeError: CUDA error: device lost\n"
    )
    said = EmbeddedServer(tmp_path, log).last_words()
    assert "CUDA error: device lost" in said
    assert "NVML" not in said
    assert "CudaDriverHelper" not in said
