"""Which version a request goes to."""

from __future__ import annotations

from harness.triton.conformance.row import Facts, Group
from harness.triton.conformance.site import Site

GROUP = Group("Which version a request goes to")
row = GROUP.row


@row(
    claim="A request that names no version goes to the highest READY one: the moment 2 loads, all of them move there.",
    expected={"while 1 serves": 1, "while 1 and 2 serve": 2, "after 2 has left": 1},
    safeguard="`models load` counts such requests first and refuses unless told that clients name their version; a "
    "canary undoes a load that strays reach.",
)
def no_version_named(site: Site) -> Facts:
    model = site.model(1)
    answered = []
    for versions in ([1], [1, 2], [1]):
        model.set(*versions)
        answered.append(model.ask().version)
    return dict(zip(("while 1 serves", "while 1 and 2 serve", "after 2 has left"), answered, strict=True))


@row(
    claim="Over HTTP the version is in the path, `/v2/models/M/versions/1/infer`, where a proxy can rewrite it.",
    expected={"versions/1": 1, "versions/2": 2},
    safeguard="A split by path needs an HTTP ingress; over gRPC the version is inside the message.",
)
def version_in_the_path(site: Site) -> Facts:
    model = site.model(1, 2)
    return {f"versions/{version}": model.ask(version).version for version in (1, 2)}


@row(
    claim="A version that is not loaded is refused, never replaced by another: 503 if Triton knows it, else 404.",
    expected={"unloaded": 503, "never loaded": 404},
    safeguard="A failed request is a sample with its status; it is not asked again elsewhere.",
)
def version_that_does_not_serve(site: Site) -> Facts:
    model = site.model(1, 2)
    model.set(1)
    model.until(2, "UNAVAILABLE")
    return {"unloaded": model.ask(2).status, "never loaded": model.ask(9).status}


@row(
    claim="An ensemble's step with `model_version: -1` moves to 2 when 2 loads; with `model_version: 1` it stays.",
    expected={"-1 before": 1, "-1 after": 2, "1 after": 1},
    safeguard="A load is refused if a READY ensemble depends on the model, unless `--dependents` is given.",
)
def ensemble_step_without_a_version(site: Site) -> Facts:
    model = site.model(1)
    latest, fixed = site.ensemble(model, -1), site.ensemble(model, 1)
    before = latest.ask().version
    model.set(1, 2)
    return {"-1 before": before, "-1 after": latest.ask().version, "1 after": fixed.ask().version}


@row(
    claim="Unloading a version that an ensemble's step names answers 200; the ensemble goes with it.",
    expected={"status": 200, "READY": [2], "ensemble READY": [], "request": 404},
    safeguard="As above: the ensembles that would go are named.",
)
def ensemble_step_that_leaves(site: Site) -> Facts:
    model = site.model(1, 2)
    ensemble = site.ensemble(model, 1)
    status = model.set(2).status_code
    return {
        "status": status,
        "READY": model.ready(),
        "ensemble READY": ensemble.ready(),
        "request": ensemble.ask().status,
    }
