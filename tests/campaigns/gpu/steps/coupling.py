"""What two versions on one GPU cost each other: p50 of both times with the other idle, and with the other busy.

Closed loops of one and of eight requests in flight, at FP16 and FP8 of SmolLM2 and of a 7B model.
"""

from __future__ import annotations

from tests.campaigns.gpu.steps.place import Found, Place, main

SECONDS = 3.0
IN_FLIGHT = (1, 8)
NAMES = {1: "fp16", 2: "fp8"}
TOKENS, REHEARSED_TOKENS = 16, 3
LARGE = {"shape": "7b", "slots": 8, "context": 512}


def models(rehearsed: bool) -> dict[str, dict[int, object]]:
    large = {"shape": "tiny", "slots": 8} if rehearsed else LARGE
    return {"smollm2": {1: "fp16", 2: "fp8"}, "llama": {1: large, 2: {**large, "weights": "fp8"}}}


def measure(place: Place) -> Found:
    found: Found = {"rows": [], "large": LARGE["shape"]}
    for model, builds in models(place.rehearsed).items():
        _one(place, model, builds, found)
        place.save(found)
    return found


def _one(place: Place, model: str, builds: dict[int, object], found: Found) -> None:
    from tests.campaigns.gpu.steps.serving import Load, serving, times

    seconds, depths, tokens = (6.0, (1, 2), REHEARSED_TOKENS) if place.rehearsed else (SECONDS, IN_FLIGHT, TOKENS)
    with (
        serving(place, {model: builds}, f"server-{model}") as server,
        Load(server, place.folder / f"{model}-1", model, 1, max_tokens=tokens) as first,
        Load(server, place.folder / f"{model}-2", model, 2, max_tokens=tokens) as second,
    ):
        loads, stages = {1: first, 2: second}, []
        for load in loads.values():
            load.run(seconds / 2)
        for in_flight in depths:
            for version, load in loads.items():
                stages.append((version, in_flight, "idle", load.run(seconds, in_flight)))
            numbers = {version: load.begin(seconds, in_flight) for version, load in loads.items()}
            for version, load in loads.items():
                load.wait(numbers[version])
                stages.append((version, in_flight, "busy", numbers[version]))
        samples = {version: load.stop() for version, load in loads.items()}
    for version, in_flight, other, number in stages:
        about = {"model": model, "weights": NAMES[version], "in_flight": in_flight, "other": other}
        found["rows"].append({**about, **times(samples[version], number)})


def lines(found: Found) -> list[str]:
    by = {(row["model"], row["weights"], row["in_flight"], row["other"]): row for row in found["rows"]}
    text = [
        "| model | weights | in flight, each | ttft alone | with the other busy | ratio | tpot alone | with the other "
        "busy | ratio |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for model, weights, in_flight, other in by:
        if other != "idle" or (model, weights, in_flight, "busy") not in by:
            continue
        alone, busy = by[model, weights, in_flight, "idle"], by[model, weights, in_flight, "busy"]
        cells = [_cells(alone[key], busy[key]) for key in ("ttft_ms", "tpot_ms")]
        name = f"llama {found['large']}" if model == "llama" else model
        text.append(f"| {name} | {weights} | {in_flight} | {' | '.join(cells)} |")
    return text


def _cells(alone: float, busy: float) -> str:
    """No ratio where tokens came together, so that nothing is between them."""
    return f"{alone:.2f} ms | {busy:.2f} ms | {f'{busy / alone:.2f}' if alone else ''}"


if __name__ == "__main__":
    main(measure)
