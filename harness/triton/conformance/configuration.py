"""What a load takes as the configuration, and which versions it initialises anew."""

from __future__ import annotations

import os

from harness.triton.conformance.row import Facts, Group
from harness.triton.conformance.site import Site

GROUP = Group("Configurations and overrides")
row = GROUP.row

CHANGE = {"parameters": {"changed": {"string_value": "yes"}}}


@row(
    claim="Without a `version_policy` the policy is latest, n=1: once a folder 2 is there, a plain load drops 1.",
    expected={"READY before": [1], "READY": [2], "request at v1": 503},
    safeguard="A plain load is never sent to a model that serves.",
)
def default_policy(site: Site) -> Facts:
    model = site.model(on_disk=[1])
    before = model.ready()
    model.write(2)
    with model.flying(1):
        model.load()
        dropped = model.ask(1).status
    return {"READY before": before, "READY": model.ready(), "request at v1": dropped}


@row(
    claim="An override replaces the **whole** configuration: one of the version policy alone leaves a model without "
    "inputs, and every request fails.",
    expected={"status": 200, "READY": [1, 2], "inputs": [], "request at v1": 400},
    safeguard="The override is built from the configuration that serves now.",
)
def override_of_the_policy_alone(site: Site) -> Facts:
    model = site.model(1)
    policy = {"version_policy": {"specific": {"versions": [1, 2]}}}
    status = model.api.load_config(model.name, policy).status_code
    inputs = [tensor["name"] for tensor in model.api.config(model.name)["input"]]
    return {"status": status, "READY": model.ready(), "inputs": inputs, "request at v1": model.ask(1).status}


@row(
    claim="A changed configuration initialises every version of the set anew, and no request fails meanwhile.",
    expected={"status": 200, "READY": [1, 2], "initialised anew": [1, 2], "failed requests at v1": []},
    safeguard="The serving configuration is sent back unchanged, unless `config.pbtxt` is to be applied.",
)
def changed_configuration(site: Site) -> Facts:
    model = site.model(1, 2)
    before = {version: model.ask(version).incarnation for version in (1, 2)}
    with model.traffic(1) as traffic:
        status = model.set(1, 2, **CHANGE).status_code
        traffic.more()
    anew = [version for version, incarnation in before.items() if model.ask(version).incarnation != incarnation]
    return {
        "status": status,
        "READY": model.ready(),
        "initialised anew": anew,
        "failed requests at v1": traffic.failed,
        "answered meanwhile": traffic.answered,
    }


@row(
    claim="A plain load after an override does nothing, as long as nothing in the model's folder has changed: the "
    "override stays in force, though `config.pbtxt` says otherwise.",
    expected={"status": 200, "READY": [1, 2]},
    safeguard="What serves is read from the index, never from `config.pbtxt`.",
)
def plain_load_after_an_override(site: Site) -> Facts:
    model = site.model(1)
    model.set(1, 2)
    return {"status": model.load().status_code, "READY": model.ready()}


@row(
    claim="Once `config.pbtxt` was written again, even with the same bytes, or a version's folder was added, a plain "
    "load **drops the override**.",
    expected={"READY after the file was touched": [1], "READY after a folder was added": [1]},
    safeguard="`--persist` makes `config.pbtxt` say what the override says, so that dropping it changes nothing.",
)
def override_that_is_forgotten(site: Site) -> Facts:
    ready = []
    for change in ("touch", "add"):
        model = site.model(1)
        model.set(1, 2)
        if change == "touch":
            os.utime(model.folder / "config.pbtxt")
        else:
            model.write(3)
        model.load()
        ready.append(model.ready())
    return {"READY after the file was touched": ready[0], "READY after a folder was added": ready[1]}


@row(
    claim="A plain load applies a `config.pbtxt` whose policy was edited, and initialises no version anew that stays.",
    expected={"READY": [1, 2], "v1 initialised anew": False},
    safeguard="`--persist` edits the policy and nothing else.",
)
def edited_policy(site: Site) -> Facts:
    model = site.model(1)
    before = model.ask(1).incarnation
    model.write_config(1, 2)
    model.load()
    return {"READY": model.ready(), "v1 initialised anew": model.ask(1).incarnation != before}


@row(
    claim="A version whose folder was touched is initialised anew at the model's next load, whatever that load is for.",
    expected={"status": 200, "READY": [1, 2], "initialised anew": [1]},
    safeguard="Versions are immutable: a sync writes into no folder that serves, and no load is sent that changes "
    "nothing.",
)
def touched_folder(site: Site) -> Facts:
    model = site.model(1)
    before = model.ask(1).incarnation
    os.utime(model.folder / "1")
    status = model.set(1, 2).status_code
    anew = [1] if model.ask(1).incarnation != before else []
    return {"status": status, "READY": model.ready(), "initialised anew": anew}


@row(
    claim="The Python backend's stub writes `__pycache__` into the version's folder after Triton has noted the "
    "folder's time: the version is initialised anew at the model's next load, once.",
    expected={"__pycache__ written": True, "anew at the next load": True, "anew at the one after": False},
    safeguard="Bytecode is written before an embedded server starts. On yours: publish versions with `__pycache__` of "
    "the server's Python, or keep the repository read-only for the server.",
)
def bytecode_is_a_change(site: Site) -> Facts:
    model = site.model(1, load=False)
    model.write(1, bytecode=True)
    model.load()
    with model.flying(1, 0.1):
        pass  # not measured where the server cannot write
    incarnations = [model.ask(1).incarnation]
    for versions in ([1, 2], [1]):
        model.set(*versions)
        incarnations.append(model.ask(1).incarnation)
    return {
        "__pycache__ written": (model.folder / "1" / "__pycache__").is_dir(),
        "anew at the next load": incarnations[0] != incarnations[1],
        "anew at the one after": incarnations[1] != incarnations[2],
    }
