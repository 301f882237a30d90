"""Does the judge come to the same with both versions at once and with one request at a time?

`paired` puts two requests on the GPU at the same moment, which cost each other; `interleaved` with one in flight never
does. The same builds, one server, the gates of fp8-canary on times and errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.campaigns.gpu.steps.canary import run
from tests.campaigns.gpu.steps.place import ROOT, Found, Place, main

MODES = ("interleaved", "paired")
AGAINST = {"same": 2, "slow": 3, "fp8": 4}
"""By name, the version of what FP16 (version 1) is compared with."""
WANTED = {"same": "promote", "slow": "rollback", "fp8": ""}
"""Of FP8 nothing is wanted but the same twice: how fast it is, is what is measured."""
FOR_S, REHEARSED_S = 12, 4
LARGE = {"shape": "7b", "slots": 2, "context": 512}
SCENARIO = """\
name: {name}
description: FP16 against {name}, {mode}
baseline: {{model: {model}, version: 1, url: "{url}"}}
candidate: {{model: {model}, version: {version}, url: "{url}"}}
load: {{prompts: {prompts}, max_tokens: 8}}
gates:
  - {{metric: errors, margin: 5pp}}
  - {{metric: ttft.p50, margin: 10%}}
  - {{metric: tpot.p50, margin: 10%}}
stages:
  - {{mode: {mode}, in_flight: 1, for: {seconds}s}}
"""


def builds(name: str, rehearsed: bool) -> tuple[str, dict[int, Any]]:
    """The model, and its builds by version."""
    if name == "verdicts":
        return "smollm2", {1: "fp16", 2: "same", 3: "slow", 4: "fp8"}
    large = {"shape": "tiny", "slots": 2} if rehearsed else LARGE
    return "llama", {1: large, 2: large, 3: {**large, "fault": "slow"}, 4: {**large, "weights": "fp8"}}


def measure(place: Place) -> Found:
    from tests.campaigns.gpu.steps.serving import serving

    model, versions = builds(place.name, place.rehearsed)
    found: Found = {"model": model, "builds": {str(version): build for version, build in versions.items()}, "runs": []}
    with serving(place, {model: versions}) as server:
        for name, version in AGAINST.items():
            for mode in MODES:
                text = SCENARIO.format(
                    name=f"{model}-{name}-{mode}", mode=mode, model=model, url=server.grpc_url, version=version,
                    prompts=ROOT / "scenarios" / "prompts" / "questions.jsonl",
                    seconds=REHEARSED_S if place.rehearsed else FOR_S,
                )  # fmt: skip
                told = _one(place, text, f"{place.name}-{name}-{mode}")
                found["runs"].append({"against": name, "mode": mode, **told})
                place.save(found)
    return found


def _one(place: Place, text: str, name: str) -> Found:
    path: Path = place.folder / f"{name}.yaml"
    path.write_text(text)
    told = run(place, str(path), [], name, embedded=False)  # `serving` has looked
    keys = ("verdict", "reason", "seconds", "findings", "stages")
    return {key: told[key] for key in keys}


def lines(found: Found) -> list[str]:
    text = [
        "| FP16 against | mode | verdict | pairs | s | ttft p50 | tpot p50 | as it should |",
        "|---|---|---|--:|--:|--:|--:|---|",
    ]
    by = {(each["against"], each["mode"]): each for each in found["runs"]}
    for (against, mode), each in by.items():
        effects = {f["metric"]: f["effect"] for f in each["findings"]}
        changes = [_percent(effects.get(f"{key}.p50")) for key in ("ttft", "tpot")]
        verdicts = {by[against, other]["verdict"] for other in MODES if (against, other) in by}
        right = WANTED[against] == each["verdict"] if WANTED[against] else len(verdicts) == 1
        stage = each["stages"][0]
        text.append(
            f"| {against} | {mode} | {each['verdict']} | {stage['requests'] // 2} | {stage['seconds']:.0f} | "
            f"{changes[0]} | {changes[1]} | {'yes' if right else 'NO'} |"
        )
    return text


def _percent(ratio: float | None) -> str:
    return "" if ratio is None else f"{100 * (ratio - 1):+.1f} %"


if __name__ == "__main__":
    main(measure)
