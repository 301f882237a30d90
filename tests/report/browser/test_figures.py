"""Figures answer: values at the pointer and by keys are the recording's, and time is zoomed in all of them at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from harness.recording import Recording
from harness.report import words
from tests.report import factory
from tests.report.browser.conftest import PHONE, Open, Opened

Drawn = Callable[[str], Path]


@pytest.fixture
def seen(opened: Open, drawn: Drawn) -> Iterator[Opened]:
    with opened(drawn("canary")) as found:
        yield found
        assert found.faults == []


@pytest.fixture
def page(seen: Opened) -> Page:
    return seen.page


def plot(page: Page, name: str) -> Locator:
    found = page.locator(f'.plot[aria-label^="{name}"]')
    found.scroll_into_view_if_needed()
    return found


def point(plot: Locator, x: float, y: float) -> None:
    """Points at a place of the SVG, in its pixels."""
    box = plot.bounding_box()
    assert box is not None
    scale = box["width"] / float(str(plot.locator("svg").get_attribute("viewBox")).split()[2])
    plot.page.mouse.move(box["x"] + x * scale, box["y"] + y * scale)


def shown(plot: Locator) -> list[str]:
    return [plot.locator(".tip > *").nth(n).inner_text() for n in range(plot.locator(".tip > *").count())]


def panels(plot: Locator) -> list[dict]:  # type: ignore[type-arg]
    return json.loads(plot.locator("svg").get_attribute("data-plot") or "")  # type: ignore[no-any-return]


def ticks(plot: Locator) -> list[float]:
    texts = plot.locator(".xtick text").evaluate_all(
        "(all) => all.filter((text) => text.getBoundingClientRect().width).map((text) => text.textContent)"
    )
    return [float(text) for text in texts]


def latencies(recorded: Recording, arm: str) -> tuple[np.ndarray, np.ndarray]:
    """When requests that were answered and not for scoring began, and their times to the first token, in seconds."""
    rows = [
        row for row in recorded.samples.to_pylist()
        if (row["arm"], row["status"], row["stage"], row["assignment"]) == (arm, "ok", 0, "plan")
    ]  # fmt: skip
    begun = np.asarray([row["sent_ns"] for row in rows])
    return begun * 1e-9, (np.asarray([row["first_ns"] for row in rows]) - begun) * 1e-9


def test_a_distribution_tells_the_recordings_quantiles(page: Page, recorded: Recording) -> None:
    found = plot(page, "Time to the first token: distribution")
    [panel] = panels(found)
    for share in (25, 50, 90):
        left, top, right, bottom = panel["box"]
        point(found, (left + right) / 2, bottom - (bottom - top) * share / 101)
        head, *values = shown(found)
        told = float(head.split(": ")[1])
        assert told == pytest.approx(share, abs=0.7)
        for arm, said in zip(("baseline", "candidate"), values, strict=True):
            exact = np.quantile(latencies(recorded, arm)[1], [(told - 0.6) / 100, (told + 0.6) / 100])
            low, high = (words.seconds(float(each)) for each in exact)
            assert number(low) <= number(said.removeprefix(f"{arm}: ")) <= number(high)


def number(text: str) -> float:
    return float(text.split()[0]) * {"s": 1.0, "ms": 1e-3}[text.split()[1]]


def test_a_figure_over_time_tells_the_recordings_medians(page: Page, recorded: Recording) -> None:
    found = plot(page, "Time to the first token over time")
    [panel] = panels(found)
    at, times = latencies(recorded, "baseline")
    median = next(line for line in panel["lines"] if line["name"] == "baseline p50")
    assert len(median["at"]) > 5
    for x in median["at"][1:4]:
        point(found, x, panel["box"][1] + 20)
        head, *values = shown(found)
        middle = float(head.removesuffix(" s"))
        said = next(value for value in values if value.startswith("baseline p50: "))
        # A bin is as wide as the way between two middles; its requests are those around the middle.
        half = (panel["time"][1] - panel["time"][0]) * (median["at"][2] - median["at"][1])
        half /= 2 * (panel["box"][2] - panel["box"][0])
        near = times[np.abs(at - middle) < 1.3 * half]
        assert near.min() < number(said.removeprefix("baseline p50: ")) < near.max()
        wide = np.quantile(times[np.abs(at - middle) < half], [0.3, 0.7])
        assert wide[0] * 0.99 < number(said.removeprefix("baseline p50: ")) < wide[1] * 1.01


def test_memory_is_told_as_it_was_read(page: Page, recorded: Recording) -> None:
    found = plot(page, "Over time: Requests a second")
    panel = next(panel for panel in panels(found) if panel["title"].startswith("GPU memory used"))
    left, top, right, bottom = panel["box"]
    point(found, (left + right) / 2, (top + bottom) / 2)
    head, value = shown(found)
    second = float(head.split(", ")[-1].removesuffix(" s"))
    assert recorded.readings is not None
    readings = {
        row["t_ns"] / factory.NS: row["value"]
        for row in recorded.readings.to_pylist()
        if row["metric"] == "gpu.memory.used"
    }
    nearest = min(readings, key=lambda moment: abs(moment - second))
    assert abs(nearest - second) < 0.6
    assert float(value.removeprefix("gpu0: ").removesuffix(" GiB")) == pytest.approx(readings[nearest] / 2**30)
    assert found.locator(".cross line").count() == len(panels(found))  # one moment in all panels


def test_each_rule_of_the_forest_says_its_figures(page: Page) -> None:
    found = plot(page, "Effect and interval against the margin: errors, ")
    for panel in panels(found):
        for row, name in enumerate(panel["head"]):
            point(found, panel["box"][0] + 5, panel["at"][row])
            assert shown(found)[0] == name
            assert "margin" in shown(found)[1]
    table = page.locator("table.findings").first.inner_text()
    effect = shown(found)[1].split(" (")[0]
    assert effect in table


def test_time_is_zoomed_in_all_figures_and_back(page: Page) -> None:
    over_time = page.locator(".plot.time")
    assert over_time.count() >= 8
    whole = [ticks(each) for each in over_time.all()]
    drawing = page.locator("main").evaluate("(main) => main.innerHTML")
    found = plot(page, "Time to the first token over time")
    [panel] = panels(found)
    left, _, right, _ = panel["box"]
    span = panel["time"][1] - panel["time"][0]
    point(found, left + (right - left) * 0.25, 60)
    page.mouse.down()
    point(found, left + (right - left) * 0.4, 60)
    point(found, left + (right - left) * 0.5, 60)
    page.mouse.up()
    begin, end = panel["time"][0] + 0.25 * span, panel["time"][0] + 0.5 * span
    said = re.fullmatch(r"([\d.]+) s to ([\d.]+) s of the run", page.locator(".zoom span").inner_text())
    assert said is not None
    assert [float(said[1]), float(said[2])] == pytest.approx([begin, end], abs=span / 100)
    for each, before in zip(over_time.all(), whole, strict=True):
        assert len(ticks(each)) >= 2
        assert all(begin - 1 <= tick <= end + 1 for tick in ticks(each)), ticks(each)
        assert ticks(each) != before
    # What is told at a moment stays the same; what lies outside is not drawn into the axes' labels.
    median = next(line for line in panel["lines"] if line["name"] == "baseline p50")
    inside = [n for n, x in enumerate(median["at"]) if left + (right - left) * 0.3 < x < left + (right - left) * 0.45]
    x = left + (median["at"][inside[0]] - (left + (right - left) * 0.25)) * 4
    point(found, x, 60)
    assert f"baseline p50: {median['said'][inside[0]]}" in shown(found)
    page.get_by_role("button", name="Closer").click()
    page.get_by_role("button", name="Later").click()
    found.dblclick()
    assert page.locator(".zoom span").inner_text() == "the whole run"
    assert [ticks(each) for each in over_time.all()] == whole
    page.mouse.move(1, 1)
    restored = page.locator("main").evaluate("(main) => main.innerHTML")
    assert numbers(restored) == pytest.approx(numbers(drawing), abs=0.02)


def numbers(drawing: str) -> list[float]:
    """All coordinates of paths, in order."""
    paths = re.findall(r' d="([^"]*)"', drawing)
    return [float(each) for each in re.findall(r"-?\d+\.?\d*", " ".join(paths))]


def test_keys_read_values_zoom_and_hide(page: Page) -> None:
    found = plot(page, "Time to the first token over time")
    announced = page.locator("[role=status]").first
    found.focus()
    page.keyboard.press("ArrowRight")
    first = announced.inner_text()
    assert re.match(r"[\d.]+ s: baseline p50 [\d.]+ ms, ", first)
    page.keyboard.press("ArrowRight")
    assert announced.inner_text() != first
    page.keyboard.press("ArrowLeft")
    assert announced.inner_text() == first
    page.keyboard.press("+")
    assert page.locator(".zoom").is_visible()
    assert announced.inner_text().startswith("Shown: ")
    page.keyboard.press("0")
    assert announced.inner_text() == "Shown: the whole run"
    points = found.locator('.axes :not(.legend *)[style*="var(--baseline)"]')
    assert points.first.is_visible()
    page.keyboard.press("1")
    assert announced.inner_text() == "baseline p50, baseline p90 hidden"
    assert not points.first.is_visible()
    page.keyboard.press("Home")
    assert "baseline" not in announced.inner_text()
    page.keyboard.press("1")
    assert points.first.is_visible()
    page.keyboard.press("Escape")
    assert found.locator(".tip").is_hidden()
    found.blur()
    assert page.locator(".zoom").is_hidden()
    forest = plot(page, "Effect and interval against the margin: errors, ")
    forest.press("End")
    last = panels(forest)[-1]
    assert announced.inner_text() == f"{last['head'][-1]}: {last['said'][-1]}"


def test_a_name_in_the_legend_hides_its_arm(page: Page) -> None:
    found = plot(page, "Time to the first token: distribution")
    line = found.locator('.axes path[style*="var(--candidate)"]').first
    assert line.is_visible()
    found.locator(".legend text", has_text="candidate").click()
    assert not line.is_visible()
    found.hover()
    assert [value.split(":")[0] for value in shown(found)[1:]] == ["baseline"]
    page.evaluate("document.dispatchEvent(new Event('content'))")  # nothing is set up twice
    assert page.locator(".plot .plot").count() == 0
    found.locator(".legend text", has_text="candidate").click()
    assert line.is_visible()


def test_a_finger_reads_and_zooms_too(opened: Open, drawn: Drawn) -> None:
    with opened(drawn("canary"), PHONE, has_touch=True, is_mobile=True) as seen:
        found = plot(seen.page, "Time to the first token over time")
        found.tap()
        expect(found.locator(".tip")).to_be_visible(timeout=120_000)
        box, tip = found.bounding_box(), found.locator(".tip").bounding_box()
        assert box is not None
        assert tip is not None
        assert tip["x"] >= box["x"] - 1
        assert tip["x"] + tip["width"] <= box["x"] + box["width"] + 1
        touch = seen.page.context.new_cdp_session(seen.page)
        for kind, share in (("touchStart", 0.3), ("touchMove", 0.5), ("touchMove", 0.6), ("touchEnd", None)):
            points = [{"x": box["x"] + share * box["width"], "y": box["y"] + 60}] if share else []
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        # a browser makes clicks of touches in its own time
        said = seen.page.locator(".zoom span")
        expect(said).to_have_text(re.compile(r"s of the run$"), timeout=120_000)
        seen.page.get_by_role("button", name="Whole run").tap()
        expect(said).to_have_text("the whole run", timeout=120_000)
        assert seen.faults == []


def test_a_printed_page_shows_the_whole_run(page: Page) -> None:
    found = plot(page, "Time to the first token over time")
    whole = ticks(found)
    found.press("+")
    closer = ticks(found)
    assert closer != whole
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert ticks(found) == whole
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert ticks(found) == closer
