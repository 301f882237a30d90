"""Every kind of page in a real browser: it loads alone, all of it can be read, nothing on it breaks out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.report.browser import pages
from tests.report.browser.conftest import PHONE, WIDE, Open

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
# Text that cannot be read: beyond the window, cut by a box that does not scroll, or beyond its drawing.
CUT = """() => {
  const found = [];
  const wide = document.documentElement;
  if (wide.scrollWidth > wide.clientWidth) found.push(`the page is ${wide.scrollWidth} wide`);
  const aside = ".unseen, .skip, thead";
  const shown = (element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest(aside);
  const said = (element) => element.textContent.trim().slice(0, 50);
  for (const element of document.querySelectorAll("body :not(script, style, svg *)")) {
    if (!shown(element) || !element.textContent.trim()) continue;
    const style = getComputedStyle(element);
    if (["hidden", "clip"].includes(style.overflowX) && element.scrollWidth > element.clientWidth + 1) {
      found.push(`cut: ${said(element)}`);
    }
    const box = element.getBoundingClientRect();
    const beyond = box.left < -1 || box.right > innerWidth + 1;
    if (beyond && !element.closest(".scroll")) found.push(`beyond the window: ${said(element)}`);
  }
  for (const svg of document.querySelectorAll("svg.figure")) {
    if (!shown(svg)) continue;
    const drawing = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      const inside = box.left > drawing.left - 2 && box.right < drawing.right + 2
        && box.top > drawing.top - 2 && box.bottom < drawing.bottom + 2;
      if (text.textContent.trim() && !inside) found.push(`beyond its figure: ${said(text)}`);
    }
  }
  return found;
}"""


def unfold(page: Page) -> None:
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")


@pytest.mark.parametrize("width", [WIDE, PHONE])
@pytest.mark.parametrize("kind", pages.KINDS)
def test_a_page_loads_alone_and_no_text_is_cut(
    opened: Open, drawn: Callable[[str], Path], kind: str, width: int
) -> None:
    with opened(drawn(kind), width) as seen:
        unfold(seen.page)
        assert seen.page.evaluate(CUT) == []
        assert seen.page.locator("h1").count() == 1
        assert seen.page.locator("section.verdict, h1").first.is_visible()
        assert seen.faults == []
        assert [url for url in seen.requests if not url.startswith("data:")] == [drawn(kind).as_uri()]


def test_all_figures_are_drawn(opened: Open, drawn: Callable[[str], Path]) -> None:
    with opened(drawn("canary")) as seen:
        labels = seen.page.eval_on_selector_all(
            "svg.figure",
            """(all) => all.map((svg) => {
                 const marks = Array.from(svg.querySelectorAll("path, use"), (mark) => mark.getBBox());
                 const area = svg.getBoundingClientRect();
                 const drawn = marks.some((box) => box.width > 20 || box.height > 20);
                 return [svg.getAttribute("aria-label"), drawn && area.width > 100 && area.height > 50];
               })""",
        )
    assert all(drawn for _, drawn in labels), labels
    said = " ".join(label for label, _ in labels)
    for word in ("Effect and interval", "distribution", "p50 and p90", "Evidence over time", "Failed", "Divergence",
                 "GPU memory", "GPU utilization"):  # fmt: skip
        assert word in said, said
    assert len(labels) >= 12


def test_hostile_text_is_text(opened: Open, drawn: Callable[[str], Path]) -> None:
    with opened(drawn("hostile")) as seen:
        unfold(seen.page)
        for plot in seen.page.locator(".plot").all():  # what is pointed at is said again
            plot.hover()
            plot.press("ArrowRight")
        assert seen.page.title() != "owned"
        assert seen.page.locator("img, main script, main iframe").count() == 0
        said = seen.page.locator("main").inner_text()
        assert "<script>document.title = 'owned'</script>" in said
        assert "{{ 7 * 7 }}" in said
        assert "مرحبا" in said
        assert "\N{FIRE}" in said
        assert not {"\x1b", "\N{RIGHT-TO-LEFT OVERRIDE}"} & set(seen.page.locator("body").text_content() or "")
        assert seen.faults == []
        assert len([url for url in seen.requests if not url.startswith("data:")]) == 1


@pytest.mark.parametrize("kind", ["canary", "experiment", "history"])
def test_axe_finds_no_barrier(opened: Open, drawn: Callable[[str], Path], kind: str) -> None:
    if not AXE.exists():
        pytest.skip("no axe-core here: tests/system-packages.sh installs it")
    with opened(drawn(kind)) as seen:
        unfold(seen.page)
        # Lines and marks have no words; without them axe looks at a tenth of the elements.
        seen.page.evaluate("document.querySelectorAll('svg :is(path, use, defs)').forEach((mark) => mark.remove())")
        seen.page.evaluate(AXE.read_text(encoding="utf-8"))
        for width in (WIDE, PHONE):
            for scheme in ("light", "dark"):
                seen.page.set_viewport_size({"width": width, "height": 900})
                seen.page.emulate_media(color_scheme=scheme)
                # The dark page differs in its colors alone.
                rules = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
                answer: dict[str, Any] = seen.page.evaluate(f"axe.run({{ resultTypes: ['violations'], ...{rules} }})")
                found = [
                    (one["impact"], one["id"], [(node["target"], node["failureSummary"]) for node in one["nodes"][:3]])
                    for one in answer["violations"]
                ]
                assert found == [], (scheme, width)


def test_dark_and_light_and_print_have_their_own_ground(opened: Open, drawn: Callable[[str], Path]) -> None:
    path = drawn("canary")
    ground = "getComputedStyle(document.body).backgroundColor"
    with opened(path, color_scheme="light") as light, opened(path, color_scheme="dark") as dark:
        assert light.page.evaluate(ground) == "rgb(255, 255, 255)"
        assert dark.page.evaluate(ground) == "rgb(20, 23, 27)"
        lines = "getComputedStyle(document.querySelector('svg.figure [style*=\"var(--baseline)\"]')).stroke"
        assert light.page.evaluate(lines) != dark.page.evaluate(lines)
        dark.page.emulate_media(media="print")
        assert dark.page.evaluate(ground) == "rgb(255, 255, 255)"


def test_all_of_it_is_printed(opened: Open, drawn: Callable[[str], Path]) -> None:
    with opened(drawn("canary"), color_scheme="dark") as seen:
        folded = seen.page.locator("details:not([open])").count()
        assert folded > 3
        seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert seen.page.locator("details:not([open])").count() == 0
        seen.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert seen.page.locator("details:not([open])").count() == folded
        assert seen.page.pdf(format="A4").startswith(b"%PDF")
        assert seen.faults == []


def test_without_scripts_the_page_is_complete(opened: Open, drawn: Callable[[str], Path]) -> None:
    with opened(drawn("canary"), java_script_enabled=False) as seen:
        assert seen.page.locator("svg.figure[role=img]").count() >= 12
        assert seen.page.locator("section").count() >= 7


def test_the_keyboard_sees_where_it_is(opened: Open, drawn: Callable[[str], Path]) -> None:
    with opened(drawn("canary")) as seen:
        page = seen.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert page.locator(".skip").bounding_box()["width"] > 50  # type: ignore[index]
        for _ in range(12):
            page.keyboard.press("Tab")
            style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert style == "solid", page.evaluate("document.activeElement.outerHTML.slice(0, 100)")
        levels = page.eval_on_selector_all("h1, h2, h3, h4", "(all) => all.map((one) => Number(one.tagName[1]))")
        assert all(after <= before + 1 for before, after in pairwise(levels)), levels
        assert page.locator("thead th:not([scope])").count() == 0
