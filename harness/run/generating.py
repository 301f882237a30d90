"""The load generator of a run: started on this machine, or awaited from others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from harness.load import Generator, Listen
from harness.run.folder import RunFolder
from harness.run.put_back import Say
from harness.run.served import described
from harness.run.spec import load_spec
from harness.run.target import Target
from harness.scenario import Plan, Scenario

JOIN_S = 600.0
"""How long workers of other hosts are awaited."""


def start_generator(
    *, scenario: Scenario, plan: Plan, target: Target, folder: RunFolder, t0_ns: int, listen: Listen | None, say: Say,
    stack: ExitStack,
) -> Generator:  # fmt: skip
    """Ready to send; killed with `stack`. What it sends to, and who sends, is in run.json before it does."""
    folder.meta["arms"] = {name: described(scenario, target, name) for name in target.arms}
    if "baseline" in target.controls:
        folder.meta["server"] = target.controls["baseline"].server()
    folder.save()
    spec = load_spec(scenario, plan, target, folder.path, t0_ns)
    folder.meta["nonce"] = spec.nonce
    workers = scenario.load.workers
    generator = Generator(spec, folder.path / "load.log", hold=(folder.lock_fd,), workers=workers, listen=listen)
    stack.callback(generator.kill)
    if listen is None:
        generator.start()
    else:
        say(f"waiting at {listen.host}:{listen.port} for {workers} load workers")
        generator.start(JOIN_S, partial(_tell_joined, say, workers))
    folder.meta["workers"] = generator.roster.records
    folder.save()
    return generator


def _tell_joined(say: Say, workers: int, events: Sequence[Mapping[str, Any]]) -> None:
    for event in events:
        if event["event"] == "worker_joined":
            say(f"load worker {event['worker'] + 1} of {workers} joined from {event['host']}")
