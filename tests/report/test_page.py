"""report.html: verdict first, nothing from the network, no markup from outputs, and every degenerate run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from harness.recording import Recording
from harness.recording.schema import OUTPUTS, READINGS
from harness.report import frame
from harness.report.about import back, reasons
from harness.report.page import page
from harness.types import Finding, StageVerdict, Verdict
from tests.report import factory


class Parsed(HTMLParser):
    """Elements in order, with attributes and the text before them; fails on tags that do not match."""

    VOID = ("meta", "link", "br", "img", "path", "use", "rect", "stop")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title", "script"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def good() -> Recording:
    return factory.recording()


@pytest.fixture(scope="module")
def good_page(good: Recording) -> str:
    return page(good, factory.promote())


def assert_self_contained(text: str) -> None:
    for tag, attributes in Parsed(text).tags:
        assert tag not in ("iframe", "object", "embed", "base", "form"), tag
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    for target in re.findall(r"url\(\s*['\"]?([^)'\"]*)", text):
        assert target.startswith(("#", "data:")), target
    assert "@import" not in text
    folder = resources.files("harness.report")
    own = [folder.joinpath(name).read_text(encoding="utf-8") for name in frame.SCRIPTS]
    assert re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL) == own


def test_the_verdict_and_its_reason_come_first(good_page: str) -> None:
    seen = Parsed(good_page).words
    verdict, reason = seen.index("✓ promote"), seen.index("Every gate holds in all 5 stages.")
    assert verdict < reason < seen.index("Findings") < seen.index("Latency") < seen.index("Plan and provenance")
    assert seen.index("tpot.p50 of the candidate stays within its margin.") < seen.index("Latency")


@pytest.mark.parametrize("metric", ["tpot.p50", "errors", "quality.kl"])
def test_what_failed_heads_the_findings(metric: str) -> None:
    seen = Parsed(page(factory.nothing(), factory.rollback(metric))).words
    rows = re.findall(r"(errors|ttft\.p50|tpot\.p50|quality\.kl) [✗✓?–] (\w+)", seen)
    assert rows[0] == (metric, "fail")
    assert len(rows) == 4


def test_figures_of_every_kind_are_there_and_named(good_page: str) -> None:
    labels = [a["aria-label"] or "" for tag, a in Parsed(good_page).tags if tag == "svg"]
    for metric in ("first token", "Time per output token", "Response time"):
        assert sum(metric in label for label in labels) == 2, metric
    for start, times in (
        ("Effect and interval against the margin: ", 5),  # all rules, then errors, ttft, tpot and quality by themselves
        ("Divergence", 1),
        ("Over time: Requests a second", 1),
        ("Over time: CPU utilization of the host", 1),
    ):
        assert sum(label.startswith(start) for label in labels) == times, start
    assert all(a.get("role") == "img" for tag, a in Parsed(good_page).tags if tag == "svg")
    assert good_page.count("<figcaption>") == len(labels)


def test_the_contents_lead_to_every_section(good_page: str) -> None:
    contents = good_page.split('<nav class="contents"')[1].split("</nav>")[0]
    sections = re.findall(r'<h2 id="([^"]+)"', good_page)
    assert re.findall(r'href="#([^"]+)"', contents) == sections
    assert len(sections) == 6


def test_the_reasons_stand_with_the_verdict(good_page: str) -> None:
    head = good_page.split("</header>")[0]
    for sentence in reasons(factory.promote()):
        assert f"<li>{sentence}</li>" in head
    assert len(reasons(factory.promote())) > 2


def test_the_same_recording_gives_the_same_bytes(good_page: str) -> None:
    assert page(factory.recording(), factory.promote()) == good_page


def test_ids_are_unique_and_references_lead_somewhere(good_page: str) -> None:
    ids = [a["id"] for _, a in Parsed(good_page).tags if a.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', good_page)) <= set(ids)


def test_no_network_and_no_script_but_its_own(good_page: str) -> None:
    assert_self_contained(good_page)
    assert "default-src 'none'" in good_page


def test_outputs_errors_and_names_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\x00'\"&amp;"
    clean = factory.recording(plans=factory.PLANS[:1], drifts=1.2, failing=0.1)
    outputs = clean.outputs.to_pylist()
    for row in outputs:
        row["text"] = evil + row["arm"]
    samples = clean.samples.to_pylist()
    for row in samples:
        row["error"] = evil if row["status"] != "ok" else ""
    readings = clean.readings.to_pylist()
    for row in readings:
        row["device"] = evil
    meta = {**clean.meta, "scenario": {"name": evil, "candidate": {"build": evil}}, "software": {evil: evil}}
    dirty = dataclasses.replace(
        clean, meta=meta, outputs=pa.Table.from_pylist(outputs, OUTPUTS),
        samples=pa.Table.from_pylist(samples, clean.samples.schema),
        readings=pa.Table.from_pylist(readings, READINGS),
    )  # fmt: skip
    bad = factory.finding("tpot.p50", "fail", reason=evil)
    verdict = factory.rollback()
    stage = dataclasses.replace(verdict.stages[0], reason=evil, findings=(bad,))
    text = page(dirty, dataclasses.replace(verdict, reason=evil, needs=evil, stages=(stage,)))
    assert_self_contained(text)
    assert not any(tag == "img" for tag, _ in Parsed(text).tags)
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 8
    assert "\x1b" not in text
    assert "\x00" not in text


@pytest.mark.parametrize("verdict", [factory.promote, factory.rollback, factory.inconclusive, factory.empty_verdict])
def test_nothing_recorded(verdict: Callable[[], Verdict]) -> None:
    text = page(factory.nothing(), verdict())
    assert_self_contained(text)
    seen = Parsed(text).words
    assert "No requests were recorded." in seen
    assert "No outputs were compared." in seen
    assert "No readings were taken." in seen


def test_a_killed_run_says_so_and_shows_what_there_is() -> None:
    killed = factory.recording(finished=False, plans=factory.PLANS[:2])
    assert killed.meta["stages"][-1]["end_ns"] is None
    text = page(killed, factory.inconclusive())
    assert "This run did not finish." in text
    assert "What it would take:" in text
    assert "not finished" in Parsed(text).words
    assert text.count("<svg") >= 8


def test_a_recording_without_readings_outputs_or_run_json(good: Recording) -> None:
    bare = Recording(Path("run"), {}, good.samples)
    text = page(bare, factory.rollback())
    assert_self_contained(text)
    assert "This run did not finish." not in text
    assert "The recording does not say which stages it had." in text
    assert text.count("<svg") == 11  # three latencies twice, the rules together, and the four by themselves


def test_only_what_a_foreign_recording_must_have() -> None:
    samples = factory.nothing().samples.schema.empty_table().to_pylist()
    for number in range(40):
        row = dict.fromkeys(factory.SAMPLES.names, -1) | {
            field.name: "" for field in factory.SAMPLES if pa.types.is_string(field.type)
        }
        row |= {
            "arm": ("baseline", "candidate")[number % 2],
            "due_ns": number * 10**8,
            "done_ns": number * 10**8 + 10**7,
        }
        samples.append(row | {"status": "ok" if number else "error"})
    text = page(Recording(Path("run"), {}, pa.Table.from_pylist(samples, factory.SAMPLES)), factory.inconclusive())
    seen = Parsed(text).words
    assert "Response time" in seen
    assert "Time to the first token" not in seen
    assert "10.0 ms" in seen


def test_a_model_without_tokens_has_response_times_only() -> None:
    text = page(factory.big(2000), factory.empty_verdict())
    seen = Parsed(text).words
    assert "Response time" in seen
    assert "Time per output token" not in seen


def test_a_big_run_stays_small() -> None:
    text = page(factory.big(120_000), factory.promote())
    assert len(text.encode()) < 1_000_000
    assert "timeout" in text


def test_the_quantiles_in_the_table_are_those_of_the_paired_stage(good: Recording, good_page: str) -> None:
    seen = Parsed(good_page).words
    rows = [row for row in good.samples.to_pylist() if row["stage"] == 0 and row["assignment"] == "plan"]
    for arm in ("baseline", "candidate"):
        times = [row["done_ns"] - row["due_ns"] for row in rows if row["arm"] == arm and row["status"] == "ok"]
        p50, p90 = np.quantile(np.asarray(times) * 1e-6, [0.5, 0.9])
        assert f"{arm} {p50:.0f} ms {p90:.0f} ms – {len(times)}" in seen


def test_only_the_worst_answers_are_shown(good_page: str) -> None:
    assert good_page.count('<div class="candidate"><strong>candidate</strong>') == 3
    shares = [float(kl) for kl in re.findall(r"pair \d+: ([\d.]+) nats", good_page)]
    assert shares == sorted(shares, reverse=True)


def test_names_in_other_scripts_and_with_dollars_are_drawn_as_they_are() -> None:
    readings = factory.readings(60).to_pylist()
    for row in readings:
        row["device"] = "模型 $x^2$ " + row["device"]
    named = dataclasses.replace(factory.nothing(), readings=pa.Table.from_pylist(readings, READINGS))
    text = page(named, factory.promote())
    assert ">模型 $x^2$ smollm2/1</text>" in text


def test_a_rule_with_an_open_or_runaway_interval_does_not_flatten_the_others() -> None:
    odd = (
        factory.finding("ttft.p50", "inconclusive", 1.05, interval=(1.0, 5e21)),
        factory.finding("tpot.p50", "inconclusive", 1.05, interval=(None, None)),
        factory.finding("response_time.p99", "no data", float("inf"), interval=None),
        factory.finding("response_time.p50", "pass", 1.0, interval=(1.0, 1.0), margin=None),
    )
    stage = dataclasses.replace(factory.inconclusive().stages[0], findings=odd)
    text = page(factory.nothing(), dataclasses.replace(factory.inconclusive(), stages=(stage,)))
    ticks = re.findall(r">([+-]\d+) %</text>", text)
    assert ticks
    assert max(abs(int(tick)) for tick in ticks) < 100


def test_a_scenario_with_all_its_prompts_does_not_fill_the_page() -> None:
    meta = {
        "format": 1,
        "scenario": {"name": "x", "load": {"prompts": ["why? " * 50] * 5000}},
        "finished": True,
    }
    meta["host"] = {f"key{number}": number for number in range(1000)}
    assert len(page(dataclasses.replace(factory.nothing(), meta=meta), factory.promote())) < 100_000


def test_how_fast_the_traffic_was_back_stands_beside_the_verdict(tmp_path: Path) -> None:
    said = "all traffic was at v1 0.9 s after the first bad answer of v2; from then on none of 9 requests at v1 failed"
    found = Finding("traffic.rollback", "pass", f"for information: {said}", kind="watch", unit="s", effect=0.9)
    verdict = Verdict("rollback", "v2 fails", (StageVerdict(0, "rollback", "v2 fails", (found,)),))
    assert back(verdict) == [said[0].upper() + said[1:]]
    assert reasons(verdict)[-1] == back(verdict)[0]
    assert back(Verdict("promote", "", ())) == []
