"""The server's own readiness is not a version's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from harness.triton.conformance.row import Facts, Group
from harness.triton.conformance.site import Site

GROUP = Group("Readiness")
row = GROUP.row


@row(
    claim="While 2 loads, the server's own readiness answers 400; the readiness of 1 is 200, and 1 serves.",
    expected={"server": 400, "v1": 200, "request at v1": 200, "server afterwards": 200},
    safeguard="Each version is asked for its own readiness, never the server; a fleet is loaded in waves.",
    disturbs="a load that takes seconds holds the server's own readiness at 400",
)
def readiness_while_a_version_loads(site: Site) -> Facts:
    model = site.model(1)
    model.write(3, held=True)
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        stack.callback(model.release, 3)  # before the pool waits for its thread
        loading = pool.submit(model.set, 1, 3)
        model.until(3, "LOADING", "READY")
        facts = {
            "server": site.api.server_ready(),
            "v1": site.api.version_ready(model.name, 1),
            "request at v1": model.ask(1).status,
        }
        model.release(3)
        loading.result()
    return {**facts, "server afterwards": site.api.server_ready()}


@row(
    claim="While a version leaves, until its last request is answered and its processes have ended, the server's own "
    "readiness answers 400 as well.",
    expected={"server": 400, "v1": 200, "server afterwards": 200},
    safeguard="As above.",
)
def readiness_while_a_version_leaves(site: Site) -> Facts:
    model = site.model(1, 2)
    with model.flying(2):
        model.set(1)
        facts = {"server": site.api.server_ready(), "v1": site.api.version_ready(model.name, 1)}
    model.until(2, "UNAVAILABLE")
    return {**facts, "server afterwards": site.api.server_ready()}


@row(
    claim="The readiness of a version that does not serve is 400, whether or not Triton knows it.",
    expected={"unloaded": 400, "never loaded": 400},
    safeguard="Any answer but 200 is not ready.",
)
def readiness_of_a_version_that_does_not_serve(site: Site) -> Facts:
    model = site.model(1, 2)
    model.set(1)
    model.until(2, "UNAVAILABLE")
    return {
        version: site.api.version_ready(model.name, number)
        for version, number in (("unloaded", 2), ("never loaded", 9))
    }


@row(
    claim="The metrics port answers 200 at `/v2/health/live`: a URL with the wrong port looks alive.",
    expected={"live": 200, "ready": 200, "index": 405},
    safeguard="An answer that is not Triton's is named as such, with the port.",
    metrics=True,
)
def metrics_port_looks_alive(site: Site) -> Facts:
    return {
        "live": site.api.at_metrics_port("GET", "/v2/health/live"),
        "ready": site.api.at_metrics_port("GET", "/v2/health/ready"),
        "index": site.api.at_metrics_port("POST", "/v2/repository/index"),
    }
