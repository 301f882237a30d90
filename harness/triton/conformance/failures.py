"""Loads that fail, that take long, and that meet."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial

import httpx
from tritonclient.grpc import InferenceServerClient

from harness.triton.conformance.api import CALL_TIMEOUT_S, ask
from harness.triton.conformance.row import Facts, Group
from harness.triton.conformance.site import Model, Site, error_of

GROUP = Group("Loads that fail, and loads that meet")
row = GROUP.row

FAILS = "a failed load holds the server's own readiness at 400, here until the row is over"
HELD = "a load that takes seconds holds the server's own readiness at 400"
CONNECTIONS, ATTEMPTS, PATIENCE_S = 16, 3, 2.0


@row(
    claim="A version whose `initialize` raises: the load answers 400 with the traceback, and 1 serves on. The index "
    "keeps the failed version as UNAVAILABLE with the reason, also after later loads that succeed.",
    expected={
        "status": 400,
        "reason in the answer": True,
        "READY": [1],
        "requests at v1": 200,
        "reason in the index": True,
        "reason in the index after a good load": True,
    },
    safeguard="The failed load's reason is shown, and an old reason is not taken for a new failure.",
    disturbs=FAILS,
)
def load_that_fails(site: Site) -> Facts:
    model = site.model(1)
    model.write(3, fails=True)
    answer = model.set(1, 3)
    facts = {
        "status": answer.status_code,
        "reason in the answer": "told to fail in loading" in error_of(answer),
        "READY": model.ready(),
        "requests at v1": model.ask(1).status,
        "reason in the index": "told to fail in loading" in model.states().get("3", ""),
    }
    model.set(1, 2)
    return {**facts, "reason in the index after a good load": "told to fail in loading" in model.states().get("3", "")}


@row(
    claim="A set with one new version that fails loads none of its new versions; those that served stay.",
    expected={"status": 400, "READY": [1], "v2": "UNAVAILABLE unloaded"},
    safeguard="After a failed load the index is read, and the error says what serves now.",
    disturbs=FAILS,
)
def set_with_one_that_fails(site: Site) -> Facts:
    model = site.model(1)
    model.write(3, fails=True)
    status = model.set(1, 2, 3).status_code
    return {"status": status, "READY": model.ready(), "v2": model.until(2, "UNAVAILABLE")}


@row(
    claim="After one failed load the server's own readiness answers 400 through later loads that succeed, the unload "
    "of the whole model and the removal of its folder; only a load of that same version that succeeds cures it (or "
    "a restart). The readiness of version 1 is 200 throughout.",
    expected={
        "before": 200,
        "after the failed load": 400,
        "v1": 200,
        "after a good load": 400,
        "after unload and load": 400,
        "after the folder was removed": 400,
        "after that version loaded": 200,
    },
    safeguard="Said after every failed load, with the ways to cure it; `--probe-path` finds the probe that would fall "
    "for it beforehand.",
    disturbs=FAILS,
)
def readiness_after_a_failed_load(site: Site) -> Facts:
    facts = {"before": site.api.server_ready()}
    model = site.model(1)
    model.write(3, fails=True)
    model.set(1, 3)
    facts |= {"after the failed load": site.api.server_ready(), "v1": site.api.version_ready(model.name, 1)}
    model.set(1, 2)
    facts["after a good load"] = site.api.server_ready()
    model.unload()
    for version in (1, 2):
        model.until(version, "UNAVAILABLE")
    model.load()
    facts["after unload and load"] = site.api.server_ready()
    shutil.rmtree(model.folder / "3")
    model.load()
    facts["after the folder was removed"] = site.api.server_ready()
    model.write(3)
    model.set(1, 3)
    return {**facts, "after that version loaded": site.api.server_ready()}


@row(
    claim="A second load of the same model queues behind one that is in progress: nothing of it begins before. Both "
    "answer 200 in the end, and the versions of the second serve.",
    expected={
        "second answered while the first was in progress": False,
        "meanwhile": {"1": "READY", "3": "LOADING"},
        "statuses": [200, 200],
        "READY in the end": [1, 2],
    },
    safeguard="A version that is LOADING is somebody's call in progress, and is waited for; a set that is not ours in "
    "the end is an error: ChangedMeanwhile.",
    disturbs=HELD,
)
def loads_of_one_model_that_meet(site: Site) -> Facts:
    model = site.model(1)
    model.write(3, held=True)
    with ThreadPoolExecutor(2) as pool, ExitStack() as stack:
        stack.callback(model.release, 3)  # before the pool waits for its threads
        first = pool.submit(model.set, 1, 3)
        model.until(3, "LOADING", "READY")
        second = pool.submit(model.set, 1, 2)
        early = bool(wait([second], PATIENCE_S).done)
        states = model.states()
        model.release(3)
        statuses = [call.result().status_code for call in (first, second)]
    return {
        "second answered while the first was in progress": early,
        "meanwhile": states,
        "statuses": statuses,
        "READY in the end": model.ready(),
    }


@row(
    claim="A load or unload of another model does not wait for a load that is in progress.",
    expected={"load of another model": 200, "unload of another model": 200, "first": "LOADING"},
    safeguard="A load that hangs is a matter of its own model.",
    disturbs=HELD,
)
def loads_of_two_models_that_meet(site: Site) -> Facts:
    first, second, third = site.model(1), site.model(1), site.model(1)
    first.write(3, held=True)
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        stack.callback(first.release, 3)  # before the pool waits for its thread
        loading = pool.submit(first.set, 1, 3)
        first.until(3, "LOADING", "READY")
        facts = {
            "load of another model": second.set(1, 2).status_code,
            "unload of another model": third.unload().status_code,
            "first": first.states().get("3"),
        }
        first.release(3)
        loading.result()
    return facts


@row(
    claim="A load over HTTP holds its thread of the server until it ends, and every HTTP connection that this thread "
    "has accepted waits with it: requests to the version that serves are not refused, but late.",
    expected={"some connections wait": True, "requests that fail": 0},
    safeguard="Control a server over grpc:// if its users come over HTTP.",
    disturbs="requests of the server's users would wait for seconds",
)
def load_over_http_stalls_connections(site: Site) -> Facts:
    for _ in range(ATTEMPTS):  # which connections share a thread is chance
        model = site.model(1)
        model.write(3, held=True)
        waited, failed = stalled(model, partial(model.set, 1, 3), PATIENCE_S)
        if waited or failed:
            break
    return {"some connections wait": waited > 0, "requests that fail": failed, "of 16 connections waited": waited}


@row(
    claim="A load over gRPC makes no HTTP connection wait.",
    expected={"connections that wait": 0, "requests that fail": 0},
    safeguard="As above.",
    own=True,
)
def load_over_grpc_stalls_nothing(site: Site) -> Facts:
    with site.launched() as (other, addresses):
        model = other.model(1)
        model.write(3, held=True)
        policy = {"version_policy": {"specific": {"versions": [1, 3]}}}
        config = json.dumps({**other.api.config(model.name), **policy})
        with InferenceServerClient(addresses.grpc) as client:
            waited, failed = stalled(model, partial(client.load_model, model.name, config=config), CALL_TIMEOUT_S)
    return {"connections that wait": waited, "requests that fail": failed}


def stalled(model: Model, load: Callable[[], object], patience_s: float) -> tuple[int, int]:
    """How many of 16 kept connections got no answer from version 1 within `patience_s` while `load` loads version 3,
    and how many got a bad one in the end.
    """
    with ExitStack() as stack:
        clients = [stack.enter_context(model.api.client(keep=True)) for _ in range(CONNECTIONS)]
        for client in clients:
            ask(client, model.name, 1)
        pool = stack.enter_context(ThreadPoolExecutor(CONNECTIONS + 1))
        stack.callback(model.release, 3)
        loading = pool.submit(load)
        model.until(3, "LOADING", "READY")
        asked = [pool.submit(ask, client, model.name, 1) for client in clients]
        waiting = wait(asked, patience_s).not_done
        model.release(3)
        loading.result()
        return len(waiting), sum(call.result().status != httpx.codes.OK for call in asked)
