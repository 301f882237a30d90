"""`run --live` against a real Triton: the page grows while the load goes on, and ends with the verdict."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.processes import command_line, family, gone
from tests.run.browser import PATIENCE_S, Client
from tests.run.conftest import SCENARIO, only_folder

pytestmark = [pytest.mark.triton, pytest.mark.slow]

LONG = SCENARIO.replace("in_flight: 1, for: 6s", "rate: 5/s, for: 10m")


def asked(text: str) -> int:
    """Requests of the baseline, as the table of errors counts them."""
    found = re.search(r'aria-label="Failed requests by arm".*?</th><td class="n">([\d,]+)</td>', text, re.DOTALL)
    return int(found[1].replace(",", "")) if found else 0


def test_the_page_grows_while_the_load_goes_on_and_ends_with_the_verdict(
    tmp_path: Path, background: Callable[..., object]
) -> None:
    scenario = tmp_path / "tiny-canary.yaml"
    scenario.write_text(LONG)
    run = background("run", scenario, "--out", tmp_path / "out", "--live", "--json", "--seed", "3")
    address = re.fullmatch(r"live: http://127\.0\.0\.1:(\d+)/\n", run.stderr.readline())
    assert address
    client = Client(int(address[1]))

    seen, headers = [0], {"ETag": ""}
    while len(seen) < 3:
        headers, text = client.next_page(headers["ETag"])
        assert "X-Final" not in headers
        assert "<title>running: tiny-canary</title>" in text
        assert asked(text) >= seen[-1]
        if asked(text) > seen[-1]:
            seen.append(asked(text))
    assert "Stage 1 of 4, paired: " in text
    (drawing,) = [one for one in family(run.pid) if "harness.run.live" in command_line(one)]
    assert isinstance(drawing, psutil.Process)

    run.send_signal(signal.SIGINT)
    while "X-Final" not in headers:
        headers, text = client.next_page(headers["ETag"])
    client.connection.close()
    said, _ = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 3
    assert gone(drawing)
    verdict = json.loads(said)["verdict"]
    assert f"<title>{verdict}: tiny-canary</title>" in text
    folder = only_folder(tmp_path / "out")
    assert text == (folder / "report.html").read_text()
    assert "connect-src" not in text
    assert not (folder / "live.log").exists()
