"""Loading and unloading one version of a model that serves."""

from __future__ import annotations

import shutil

from harness.triton.conformance.row import Facts, Group
from harness.triton.conformance.site import Site, error_of

GROUP = Group("Loading and unloading one version")
row = GROUP.row


@row(
    claim='`load` with `{"parameters": {"version": "2"}}` answers 500 and loads nothing.',
    expected={"status": 500, "error": "unexpected error on creating Triton parameter", "READY": [1]},
    safeguard="A version is loaded as a member of the desired set, never by its number.",
)
def load_of_one_version(site: Site) -> Facts:
    model = site.model(1)
    answer = model.load({"version": "2"})
    return {"status": answer.status_code, "error": error_of(answer), "READY": model.ready()}


@row(
    claim='`unload` with `{"parameters": {"version": "2"}}` answers 200 and unloads **every** version: an outage.',
    expected={"status": 200, "READY": []},
    safeguard="A version is unloaded by setting the others; `unload` is sent only where the whole model is to go.",
)
def unload_of_one_version(site: Site) -> Facts:
    model = site.model(1, 2)
    answer = model.unload({"version": "2"})
    return {"status": answer.status_code, "READY": model.ready()}


@row(
    claim="`load` with a whole `config` whose policy is `specific [1, 2]` loads 2; 1 keeps its process and answers "
    "every request meanwhile.",
    expected={"status": 200, "READY": [1, 2], "v1 initialised anew": False, "failed requests at v1": []},
    safeguard="This is how a version is loaded beside another.",
)
def set_of_versions(site: Site) -> Facts:
    model = site.model(1)
    before = model.ask(1).incarnation
    with model.traffic(1) as traffic:
        status = model.set(1, 2).status_code
        traffic.more()
    return {
        "status": status,
        "READY": model.ready(),
        "v1 initialised anew": model.ask(1).incarnation != before,
        "failed requests at v1": traffic.failed,
        "answered meanwhile": traffic.answered,
    }


@row(
    claim="The same set again initialises no version anew, as long as no version's folder has changed.",
    expected={"status": 200, "READY": [1, 2], "initialised anew": []},
    safeguard="Nothing is sent where the set is already as desired: a folder may have changed.",
)
def same_set_again(site: Site) -> Facts:
    model = site.model(1, 2)
    before = {version: model.ask(version).incarnation for version in (1, 2)}
    status = model.set(1, 2).status_code
    anew = [version for version, incarnation in before.items() if model.ask(version).incarnation != incarnation]
    return {"status": status, "READY": model.ready(), "initialised anew": anew}


@row(
    claim="`specific [2]` after `[1, 2]`: the call returns at once, 1 refuses new requests with 503, finishes those in "
    'flight and is then UNAVAILABLE "unloaded"; 2 keeps its process.',
    expected={
        "status": 200,
        "returned before the request in flight": True,
        "new request at v1": 503,
        "request in flight at v1": 200,
        "v1": "UNAVAILABLE unloaded",
        "READY": [2],
        "v2 initialised anew": False,
    },
    safeguard="This is how one version is unloaded; the harness waits for the requests in flight, and says so if they "
    "outlast its patience.",
)
def version_that_leaves(site: Site) -> Facts:
    model = site.model(1, 2)
    before = model.ask(2).incarnation
    with model.flying(1) as flying:
        status = model.set(2).status_code
        early = not flying.done()
        new = model.ask(1)
    return {
        "status": status,
        "returned before the request in flight": early,
        "new request at v1": new.status,
        "request in flight at v1": flying.result().status,
        "v1": model.until(1, "UNAVAILABLE"),
        "READY": model.ready(),
        "v2 initialised anew": model.ask(2).incarnation != before,
    }


@row(
    claim="`specific [1, 9]` where 9 has no folder answers 200; 2, which served, is **silently unloaded**, and 9 is "
    "not even listed.",
    expected={"status": 200, "READY": [1], "v9": None, "v2": "UNAVAILABLE unloaded"},
    safeguard="Every version's folder is looked for before the call, and the index is compared after it.",
)
def version_without_a_folder(site: Site) -> Facts:
    model = site.model(1, 2)
    status = model.set(1, 9).status_code
    ready = model.ready()
    gone = model.until(2, "UNAVAILABLE")
    return {"status": status, "READY": ready, "v9": model.states().get("9"), "v2": gone}


@row(
    claim="A folder named `02` is not version 2: Triton skips names with a leading zero.",
    expected={"status": 200, "READY": [1]},
    safeguard="Such a folder does not count as being on disk.",
)
def folder_with_a_leading_zero(site: Site) -> Facts:
    model = site.model(1, on_disk=[1])
    shutil.copytree(model.folder / "1", model.folder / "02")
    status = model.set(1, 2).status_code
    return {"status": status, "READY": model.ready()}


@row(
    claim="`specific []` answers 400 and changes nothing.",
    expected={"status": 400, "READY": [1]},
    safeguard="An empty set is refused before anything is sent.",
)
def empty_set(site: Site) -> Facts:
    model = site.model(1)
    return {"status": model.set().status_code, "READY": model.ready()}


@row(
    claim="`unload` of a model that does not exist answers 200; `load` of one answers 500.",
    expected={"unload": 200, "load": 500},
    safeguard="No success code is believed: the index is read after every call.",
)
def model_that_does_not_exist(site: Site) -> Facts:
    model = site.model(1, load=False, on_disk=[])
    shutil.rmtree(model.folder)
    return {"unload": model.unload().status_code, "load": model.load().status_code}
