"""What a start of the server brings: explicit mode, `--load-model`, restricted protocols. On servers of our own."""

from __future__ import annotations

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from harness.errors import ServerDied
from harness.triton.access import Access
from harness.triton.conformance.api import Api
from harness.triton.conformance.row import Facts, Group
from harness.triton.conformance.site import Site

GROUP = Group("Starts and restarts, in explicit mode")
row = GROUP.row

KEY, SECRET = "canary-key", "open-sesame"
HISTOGRAM = "nv_inference_first_response_histogram_ms"


@row(
    claim="A restart loads **nothing**, whatever `config.pbtxt` says.",
    expected={"READY before": [1, 2], "READY after a restart": []},
    safeguard="`models status` warns of it; `models restore` brings back what the journal says.",
    own=True,
)
def restart(site: Site) -> Facts:
    with site.launched() as (server, _):
        model = server.model(1, 2)
        before = model.ready()
    with site.launched() as (server, _):
        return {"READY before": before, "READY after a restart": model.at(server.api).ready()}


@row(
    claim="A restart with `--load-model=M` loads what `config.pbtxt` says; an override is forgotten.",
    expected={"READY by an override": [1, 2], "READY after a restart": [1]},
    safeguard="`--persist` writes the set into `config.pbtxt`, where a restart finds it.",
    own=True,
)
def restart_that_loads_the_model(site: Site) -> Facts:
    with site.launched() as (server, _):
        model = server.model(1)
        model.set(1, 2)
        before = model.ready()
    with site.launched(f"--load-model={model.name}") as (server, _):
        return {"READY by an override": before, "READY after a restart": model.at(server.api).ready()}


@row(
    claim="A restart with `--load-model=M` of a model with a version that fails: the server does not start.",
    expected={"started": False},
    safeguard="A version is written into `config.pbtxt` only after it has served.",
    own=True,
)
def restart_with_a_version_that_fails(site: Site) -> Facts:
    model = site.model(1, 2, load=False)
    model.write(2, fails=True)
    try:
        with site.launched(f"--load-model={model.name}") as (server, _):
            return {"started": True, "READY": model.at(server.api).ready()}
    except ServerDied:
        return {"started": False}


@row(
    claim="With `--http-restricted-api=model-repository:KEY=VALUE` the index, loads and unloads answer 403 without the "
    "header `KEY: VALUE`; inference and readiness do not ask for it.",
    expected={
        "index without": 403, "load without": 403, "unload without": 403, "index with": 200,
        "inference without": 200, "readiness without": 200,
    },
    safeguard="Headers go with every control call, from options, the environment or a file, and are never printed.",
    own=True,
)  # fmt: skip
def restricted_http(site: Site) -> Facts:
    with site.launched(f"--http-restricted-api=model-repository:{KEY}={SECRET}") as (server, addresses):
        model = server.model(1, load=False)
        with_key = Api(addresses.http, access=Access({KEY: SECRET}))
        model.at(with_key).load()
        return {
            "index without": server.api.call("POST", "/repository/index", {}).status_code,
            "load without": model.load().status_code,
            "unload without": model.unload().status_code,
            "index with": with_key.call("POST", "/repository/index", {}).status_code,
            "inference without": model.ask(1).status,
            "readiness without": server.api.version_ready(model.name, 1),
        }


@row(
    claim="With `--grpc-restricted-protocol=model-repository:KEY=VALUE` the metadata's name is "
    "`triton-grpc-protocol-KEY`; without it the call is UNAVAILABLE.",
    expected={"without": "StatusCode.UNAVAILABLE", "KEY": "StatusCode.UNAVAILABLE", "triton-grpc-protocol-KEY": "OK"},
    safeguard="A refusal is told apart from a server that is down, by Triton's words.",
    own=True,
)
def restricted_grpc(site: Site) -> Facts:
    def index(headers: dict[str, str]) -> str:
        try:
            client.get_model_repository_index(headers=headers)
        except InferenceServerException as error:
            words.append(str(error.message()))
            return str(error.status())
        return "OK"

    words: list[str] = []
    with (
        site.launched(f"--grpc-restricted-protocol=model-repository:{KEY}={SECRET}") as (_, addresses),
        InferenceServerClient(addresses.grpc) as client,
    ):
        named = {
            "without": {},
            "KEY": {KEY: SECRET},
            "triton-grpc-protocol-KEY": {f"triton-grpc-protocol-{KEY}": SECRET},
        }
        said = {name: index(headers) for name, headers in named.items()}
    return {**said, "words": words[0] if words else ""}


@row(
    claim=f"`{HISTOGRAM}`, of newer releases, is not there, even if asked for with `--metrics-config "
    "histogram_latencies=true` and after a request to a decoupled model.",
    expected={"request": 200, "there": False},
    safeguard="The time to the first token is measured by the harness, from the client's side.",
    own=True,
)
def first_response_histogram(site: Site) -> Facts:
    with site.launched("--metrics-config=histogram_latencies=true") as (server, _):
        model = server.model(1, load=False)
        model.write_config(1, model_transaction_policy={"decoupled": True})
        model.load()
        request = server.api.call("POST", f"/models/{model.name}/generate_stream", {"SECONDS": 0.0}).status_code
        return {"request": request, "there": HISTOGRAM in server.api.metrics().text}
