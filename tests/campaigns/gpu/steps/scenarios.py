"""Built-in scenarios on one GPU that are neither canaries nor made for this campaign."""

from __future__ import annotations

from tests.campaigns.gpu.steps.canary import beside, one_line, run, words
from tests.campaigns.gpu.steps.place import Found, Place, main

SCENARIOS = {"multi": "multi-model-server", "long": "long-context-gpu"}
SETS = {
    # the small file of the embedding model's weights is all that a bare machine has of them
    "multi": ("models.embedding.build=trimmed", "phase=10s"),
    "long": (),
}
REHEARSED = {"multi": ("phase=4s", "warm_up=1s"), "long": ("limits.edge=30%",)}
IN_PLACE = {"long": "long-context"}
"""What is rehearsed where the scenario itself needs a GPU."""


def measure(place: Place) -> Found:
    name = place.name
    scenario, sets = SCENARIOS[name], [*SETS[name]]
    if place.rehearsed:
        scenario, sets = IN_PLACE.get(name, scenario), [*(sets if name not in IN_PLACE else ()), *REHEARSED[name]]
    return run(place, scenario, sets)


def lines(found: Found, name: str) -> list[str]:
    text = [f"**{found['verdict']}**: {' '.join(found['reason'].split())}", ""]
    text += [f"{found['seconds']:.0f} s; set: {words(found['set'])}.", "", *findings(found)]
    text += beside(found) if found.get("beside") else []
    return [*text, "", f"[page]({name}/report.html), [text]({name}/report.md)"]


def findings(found: Found) -> list[str]:
    rows = [(each["metric"], each["outcome"], one_line(each["reason"])) for each in found["findings"]]
    return ["| metric | outcome | why |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]


if __name__ == "__main__":
    main(measure)
