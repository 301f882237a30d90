"""The page of a run with more requests than are kept one by one: the same figures, the same bytes, none read whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli import main
from harness.recording import Recording
from harness.report.page import page
from harness.report.requests import requests
from tests.bench.page import write
from tests.report import factory

PAIRS = 150_000  # 300,000 requests
MOST = 10_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large") / "run"
    write(folder, PAIRS)
    return folder


@pytest.fixture(scope="module")
def bounded() -> Iterator[None]:
    """As if so few requests were too many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.report.page.requests", partial(requests, most_exact=MOST))
        yield


@pytest.fixture(scope="module")
def exact(folder: Path) -> str:
    return page(Recording.open(folder), factory.promote())


@pytest.fixture(scope="module")
def counted(folder: Path, exact: str, bounded: None) -> str:
    return page(Recording.open(folder, most=MOST), factory.promote())


def lines(text: str) -> dict[tuple[str, int, str], dict[str, Any]]:
    """The labelled lines of all figures, by the figure's label, the number of its axes, and their own."""
    found = {}
    for label, data in re.findall(r'aria-label="([^"]*)"[^>]*data-plot=\'([^\']*)\'', text):
        for number, axes in enumerate(json.loads(unescape(data))):
            for line in axes.get("lines", []):
                found[label, number, line["name"]] = line
    return found


def test_counted_in_bins_it_shows_the_same_figures(exact: str, counted: str) -> None:
    assert counted != exact
    one, two = lines(exact), lines(counted)
    assert one.keys() == two.keys()
    assert {label.split(":")[0] for label, _, _ in one} > {"Time to the first token", "Failed requests over time"}
    for key, line in one.items():
        for place in ("at", "to"):
            # Pixels of the drawing: a thousandth of a time is a tenth of one.
            np.testing.assert_allclose(two[key][place], line[place], atol=0.6, err_msg=str(key))
    numbers = [
        re.findall(r"[\d,]*\.?\d+", re.sub(r"<svg.*?</svg>", "", each, flags=re.DOTALL)) for each in (exact, counted)
    ]
    assert len(numbers[0]) == len(numbers[1])
    for before, after in zip(*numbers, strict=True):
        # Three digits of what is known to a thousandth.
        assert float(after.replace(",", "")) == pytest.approx(float(before.replace(",", "")), rel=1.2e-2)
    assert f"{PAIRS:,}" in counted


def test_the_same_run_gives_the_same_bytes(folder: Path, counted: str) -> None:
    assert page(Recording.open(folder, most=MOST), factory.promote()) == counted
    assert len(counted.encode()) < 1_000_000


def test_report_reads_it_piece_by_piece(folder: Path, bounded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("harness.cli.judging.MOST_SAMPLES", "harness.judge.sketched.evidence.MOST_SAMPLES"):
        monkeypatch.setattr(name, MOST)

    def whole(recording: Recording) -> Recording:
        raise AssertionError("all samples were read at once")

    monkeypatch.setattr(Recording, "whole", whole)
    assert main(["report", str(folder)]) == 0
    text = (folder / "report.html").read_text()
    assert "they were counted in bins of 0.1 %" in text
    # What the verdict says of a time is what the page's own table says of it.
    p50 = re.search(r'aria-label="Quantiles of ttft".*?<td class="n">([\d.]+ ms)</td>', text, re.DOTALL)
    baseline = re.search(r'>ttft\.p50<.*?data-label="baseline" class="n">([\d.]+ ms)</td>', text, re.DOTALL)
    assert p50 is not None
    assert baseline is not None
    assert p50[1] == baseline[1]
