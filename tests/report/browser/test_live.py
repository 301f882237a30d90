"""The page of a run under way in a real browser: it changes by itself, and what is being read stays where it is."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pyarrow.compute as pc
import pytest
from playwright.sync_api import Browser, Page, expect

from harness.judge import evidence_of, judge
from harness.recording import Recording, stage_records
from harness.report import progress
from harness.report.page import page
from harness.run.live.newest import Newest
from harness.run.live.serving import Server
from tests.report.browser.conftest import PHONE, WATCH, WIDE, Opened

NS = 1_000_000_000
FOLLOWS = "This page follows the run."
# All that a page says and draws, but for what a script puts beside it.
SAID = """(main) => Array.from(main.querySelectorAll("h1, h2, h3, p, li, td, th, figcaption, summary, svg"),
  (element) => element.dataset.plot ?? element.textContent.replace(/\\s+/g, " ").trim())"""
SAID_BY = f'(text) => ({SAID})(new DOMParser().parseFromString(text, "text/html").querySelector("main"))'
TOP = "(element) => element.getBoundingClientRect().top"


def at(recording: Recording, seconds: float) -> bytes:
    """The page of the run as it was so long after its start."""
    now = int(seconds * NS)
    stages = [stage for stage in stage_records(recording.meta) if stage.begin_ns <= now]
    if stages[-1].end_ns is not None and stages[-1].end_ns > now:
        stages[-1] = dataclasses.replace(stages[-1], end_ns=None, decided_ns=None)
    assert recording.readings is not None
    cut = dataclasses.replace(
        recording,
        meta={**recording.meta, "stages": [asdict(stage) for stage in stages], "finished": False},
        samples=recording.samples.filter(pc.less_equal(recording.samples["done_ns"], now)),
        readings=recording.readings.filter(pc.less_equal(recording.readings["t_ns"], now)),
    )
    return page(cut, judge(evidence_of(cut)), progress=progress.of_run(cut, [])).encode()


@pytest.fixture(scope="module")
def grown(recorded: Recording) -> list[bytes]:
    """Early in the first stage, late in it, and in the second."""
    return [at(recorded, seconds) for seconds in (30.0, 80.0, 112.0)]


@contextmanager
def serving(newest: Newest, port: int = 0) -> Iterator[int]:
    with Server(socket.create_server(("127.0.0.1", port)), newest) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def looking(browser: Browser, port: int, width: int = WIDE) -> Iterator[Opened]:
    with browser.new_context(viewport={"width": width, "height": 900}) as context:
        seen = Opened(context.new_page())
        context.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("console", lambda said: seen.console.append(said.text))
        seen.page.on("pageerror", lambda error: seen.console.append(str(error)))
        seen.page.add_init_script(WATCH)
        seen.page.goto(f"http://127.0.0.1:{port}/")
        expect(seen.page.locator(".live")).to_have_text(FOLLOWS)
        yield seen


def shows(seen: Page, html: bytes) -> None:
    """Waits until the browser says what `html` says, and nothing else."""
    # Not wait_for_function, which the page's policy forbids.
    wanted = seen.evaluate(SAID_BY, html.decode())
    for _ in range(600):
        if seen.evaluate(f"({SAID})(document.querySelector('main'))") == wanted:
            return
        seen.wait_for_timeout(50)
    raise AssertionError("the browser does not say what the page says")


def test_it_changes_without_being_loaded_again_and_what_is_read_stays(browser: Browser, grown: list[bytes]) -> None:
    newest = Newest()
    newest.put(grown[0], FOLLOWS)
    with serving(newest) as port, looking(browser, port) as seen:
        look = seen.page
        shows(look, grown[0])
        look.evaluate("window.same = true")
        look.evaluate("for (const one of document.querySelectorAll('main details')) one.open = !one.open")
        folded = look.locator("main details").evaluate_all("(all) => all.map((one) => one.open)")
        plot = look.locator(".plot.time").first
        plot.focus()
        look.keyboard.press("+")
        expect(look.locator(".zoom")).to_be_visible()
        name = plot.get_attribute("aria-label")
        heading = look.locator("#errors")
        heading.evaluate("(element) => scrollTo(0, element.getBoundingClientRect().top + scrollY - 100)")
        top = heading.evaluate(TOP)

        newest.put(grown[1], FOLLOWS)
        expect(look.locator(".verdict .reason")).to_contain_text("72 s of 90 s")
        assert abs(heading.evaluate(TOP) - top) < 2
        assert look.evaluate("window.same")
        assert look.locator("main details").evaluate_all("(all) => all.map((one) => one.open)") == folded
        assert look.evaluate("document.activeElement.ariaLabel") == name
        expect(look.locator(".zoom")).to_be_visible()
        look.get_by_role("button", name="Whole run").click()
        shows(look, grown[1])

        newest.put(grown[2], FOLLOWS)
        expect(look.locator(".verdict .reason")).to_contain_text("Stage 2 of")
        shows(look, grown[2])
        assert seen.faults == []
        assert set(seen.requests) == {f"http://127.0.0.1:{port}/"}
        newest.put(None, "over", final=True)


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_it_ends_with_the_report(
    browser: Browser, drawn: Callable[[str], Path], grown: list[bytes], width: int
) -> None:
    newest = Newest()
    newest.put(grown[2], FOLLOWS)
    with serving(newest) as port, looking(browser, port, width) as seen:
        report = drawn("canary").read_bytes()
        asked: list[int] = []  # how many requests there were when the last page came
        seen.page.on("response", lambda answer: "x-final" in answer.headers and asked.append(len(seen.requests)))
        seen.page.clock.install()
        newest.put(report, "The run is over.", final=True)
        expect(seen.page.locator(".live")).to_have_text("The run is over.")
        shows(seen.page, report)
        assert seen.page.title() == "rollback: fp8-canary"
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert seen.page.locator("figure .plot").count() == seen.page.locator("figure").count()
        seen.page.clock.run_for(10_000)  # on the page's clock: whatever it would ask again is asked by then
        assert seen.page.locator(".live").text_content() == "The run is over."
        assert asked == [len(seen.requests)]
        assert seen.faults == []


def test_a_lost_connection_is_told_and_the_next_run_at_the_address_is_followed(
    browser: Browser, grown: list[bytes]
) -> None:
    newest = Newest()
    newest.put(grown[0], FOLLOWS)
    with serving(newest) as port, looking(browser, port) as seen:
        seen.page.route("**", lambda route: route.abort())
        newest.put(None, "another answer")  # after it the browser asks again, in vain
        expect(seen.page.locator(".live")).to_contain_text("Connection lost at")
        shows(seen.page, grown[0])
        newest.put(grown[1], FOLLOWS)
        seen.page.unroute("**")
        expect(seen.page.locator(".live")).to_have_text(FOLLOWS)
        shows(seen.page, grown[1])
        newest.put(None, "over", final=True)
