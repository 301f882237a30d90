"""long-context asks the server whose memory it reads: one address that stands for several is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.run.models import site
from harness.run.operations.operate import operate
from harness.scenario import Operation, load

FILE = """\
kind: long-context
name: long
target: {url: "grpc://127.0.0.1:1", repository: .}
candidate: {model: llm, version: 2}
goal: {context: 8192, batch: 4}
contexts: [1024, 2048, 4096, 6144]
batches: [1, 2, 4]
"""


def test_several_servers_behind_one_address_are_refused_before_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens there: a question would have ended it otherwise."""
    monkeypatch.setattr(site, "addresses", lambda _: ["grpc://127.0.0.1:1", "grpc://127.0.0.2:1"])
    (tmp_path / "long.yaml").write_text(FILE)
    scenario = load(tmp_path / "long.yaml")
    assert isinstance(scenario, Operation)
    with pytest.raises(UsageError, match="stands for 2 servers"):
        operate(scenario, tmp_path / "out", lambda _: None)
    assert not list((tmp_path / "out").iterdir())
