"""Pages at addresses: what fails takes nothing with it, and what is read together is not mixed."""

from __future__ import annotations

import itertools
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pytest

from harness.telemetry import Page, Sampler, SourceUnavailable, sources
from harness.telemetry.pages import in_order
from tests.telemetry.serving import recorded, serving

FIRST = "GPU-5fd4f087-86f3-7a43-b711-4771313afc50"
PATIENCE_S = 60.0
"""Where the limit is not what a test is about: that of a run is 1 s."""


@pytest.fixture
def served() -> Iterator[tuple[dict[str, str], str]]:
    pages = {"triton": recorded("triton-gpus"), "dcgm": recorded("dcgm")}
    with serving(pages) as url:
        yield pages, url


def patient(*urls: str) -> list[Page]:
    """Pages `in_order` with that limit."""
    pages = in_order(urls)
    for page in pages:
        page._timeout_s = page._client.timeout = PATIENCE_S
    return pages


def test_an_address_that_holds_no_metrics_says_why(served: tuple[dict[str, str], str]) -> None:
    pages, url = served
    pages["other"] = "go_goroutines 7\n"
    pages["broken"] = "nv_cpu_utilization{ 1\n"
    for name, why in (
        ("nosuch", "no metrics: HTTP 404"),
        ("other", "holds no metrics of Triton, the DCGM exporter, vLLM or TensorRT-LLM"),
        ("broken", "is not a metrics page: "),
    ):
        page = Page(f"{url}/{name}", PATIENCE_S)
        with pytest.raises(SourceUnavailable, match=f"^{url}/{name}: {why}"):
            page.read()
        page.close()
    nobody = Page("http://127.0.0.1:1/metrics", PATIENCE_S)
    with pytest.raises(SourceUnavailable, match=r"^http://127\.0\.0\.1:1/metrics: no metrics: "):
        nobody.read()
    nobody.close()


@contextmanager
def answering(head: str, body: Iterator[str]) -> Iterator[str]:
    """The address of one who says `head` to everybody, and then `body`, with a pause behind each piece."""
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            with suppress(OSError):  # whoever asked has heard enough
                self.request.sendall(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode())
                for piece in body:
                    self.request.sendall(piece.encode())
                    if over.wait(0.02):
                        return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        over.set()
        server.shutdown()


@pytest.mark.parametrize(
    ("piece", "timeout_s", "why"),
    [("# and so on\n", 3.0, "it takes longer than 3 s"), ("#" * 2**20, 60.0, "it is longer than 16 MiB")],
)
def test_a_page_without_an_end_is_given_up(piece: str, timeout_s: float, why: str) -> None:
    """It would hold up the readings of all other sources, and the end of the run."""
    with answering("200 OK", itertools.repeat(piece)) as url:
        page = Page(url, timeout_s)
        with pytest.raises(SourceUnavailable, match=f"^{url}: no metrics: {why}$"):
            page.read()
        page.close()


def test_only_the_same_server_may_name_another_address(served: tuple[dict[str, str], str]) -> None:
    pages, url = served
    for target, why in ((f"{url}/dcgm", f"it is at {url}/dcgm: give that address"), ("/again", "one address leads to")):
        with answering(f"307 Temporary Redirect\r\nLocation: {target}", iter(())) as front:
            page = Page(f"{front}/metrics", PATIENCE_S)
            with pytest.raises(SourceUnavailable, match=f"^{front}/metrics: no metrics: {why}"):
                page.read()
            page.close()
    pages["moved"] = "-> /dcgm"
    page = Page(f"{url}/moved", PATIENCE_S)
    assert {value.source for value in page.read()} == {"dcgm"}
    page.close()


def test_an_xid_is_one_reading_an_event(served: tuple[dict[str, str], str]) -> None:
    pages, url = served
    line = f'DCGM_FI_DEV_XID_ERRORS{{gpu="0",UUID="{FIRST}"}} '
    page = Page(f"{url}/xids", PATIENCE_S)

    def read(xid: int) -> list[float]:
        pages["xids"] = f'{line}{xid}\nDCGM_FI_DEV_GPU_TEMP{{gpu="0",UUID="{FIRST}"}} 40\n'
        return [value.value for value in page.read() if value.metric == "gpu.xid"]

    assert read(31) == [], "it was there before"
    assert [read(xid) for xid in (31, 79, 79, 0, 79, 48)] == [[], [79], [], [], [79], [48]]
    page.close()


def test_counters_of_a_version_that_goes_vanish_and_begin_anew(served: tuple[dict[str, str], str]) -> None:
    pages, url = served
    page = Page(f"{url}/m", PATIENCE_S)

    def read(text: str) -> dict[tuple[str, str], float]:
        pages["m"] = 'nv_inference_count{model="m",version="1"} 90\n' + text
        return {(value.device, value.metric): value.value for value in page.read()}

    two = 'nv_inference_count{model="m",version="2"} '
    assert read(two + "5\n") == {("m/1", "inference.count"): 90, ("m/2", "inference.count"): 5}
    assert read("") == {("m/1", "inference.count"): 90}, "absent, not 0"
    assert read(two + "0\n")["m/2", "inference.count"] == 0
    page.close()


def test_of_two_pages_that_speak_of_one_thing_the_first_that_did_counts_from_then_on(
    served: tuple[dict[str, str], str],
) -> None:
    pages, url = served
    count = 'nv_inference_count{{model="m",version="1"}} {}\nnv_inference_count{{model="m",version="{}"}} 1\n'
    pages["a"], pages["b"] = count.format(100, 2), count.format(7, 3)
    first, second = patient(f"{url}/a", f"{url}/b")

    def read(page: Page) -> dict[str, float]:
        return {value.device: value.value for value in page.read()}

    assert read(first) == {"m/1": 100, "m/2": 1}
    assert read(second) == {"m/3": 1}
    del pages["a"]
    with pytest.raises(SourceUnavailable):
        first.read()
    assert read(second) == {"m/3": 1}, "counters of two servers in one series would be neither's"
    late, early = patient(f"{url}/a", f"{url}/b")
    with pytest.raises(SourceUnavailable):
        late.read()
    assert read(early) == {"m/1": 7, "m/3": 1}
    pages["a"] = count.format(101, 2)
    assert read(late) == {"m/2": 1}, "nor when the one that comes first answers at last"
    assert read(early) == {"m/1": 7, "m/3": 1}
    for page in (first, second, late, early):
        page.close()


def test_a_page_that_fails_takes_nothing_with_it(served: tuple[dict[str, str], str], tmp_path: Path) -> None:
    _, url = served
    urls = [f"{url}/nosuch", f"{url}/triton", "http://127.0.0.1:1/metrics", f"{url}/dcgm"]
    polled = threading.Semaphore(0)

    def wait(_: float) -> bool:
        polled.release()
        return stop.wait(0.01)

    stop = threading.Event()
    sampler = Sampler(patient(*urls), tmp_path / "r.arrow", 0, 0.01, wait=wait)
    sampler.start()
    for _ in range(3):
        assert polled.acquire(timeout=60)
    stop.set()
    sampler.stop()
    with pa.ipc.open_stream(tmp_path / "r.arrow") as stream:
        rows = stream.read_all().to_pylist()
    used = {(row["source"], row["device"]): row["value"] for row in rows if row["metric"] == "gpu.memory.used"}
    assert used["triton", FIRST] == used["dcgm", FIRST] == 41 * 2**30
    assert [note.partition(": ")[0] for note in sampler.notes] == [urls[0], urls[2]]


def test_a_source_for_each_page() -> None:
    urls = ["http://triton.example:8002/metrics", "http://node.example:9400/metrics"]
    found = sources(urls, None)
    assert [source.name for source in found] == ["host", *urls]
    for source in found:
        source.close()
