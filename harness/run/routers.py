"""The ingress of a run: the user's, or a real one that is started in front of the embedded Triton."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit

from harness.embedded import EmbeddedServer, envoy, haproxy
from harness.embedded.envoy import EmbeddedEnvoy
from harness.embedded.haproxy import EmbeddedHaproxy
from harness.errors import UsageError
from harness.ingress import Ingress, open_ingress
from harness.load import Routed
from harness.run.folder import RunFolder
from harness.run.journal import Journal
from harness.scenario import IngressConfig, Scenario
from harness.types import Api, Arm, ArmName, ModelInfo

COMPARED: tuple[ArmName, ...] = ("baseline", "candidate")


@dataclass(frozen=True)
class Front:
    """`entry`: where requests go in. `routed`: how their answers tell who had them. `check` raises ServerDied where the
    one that was started has ended by itself.
    """

    routers: tuple[Ingress, ...]
    entry: Arm
    routed: Routed
    api: Api | None
    check: Callable[[], None] = lambda: None

    def arm(self, model: ModelInfo) -> Arm:
        """The entry, called as `model` can be called there."""
        http = self.entry.url.startswith("http")
        api = self.api or ("generate" if self.entry.api == "kserve" and http and model.decoupled else self.entry.api)
        return replace(self.entry, api=api)


def user_ingress(scenario: Scenario, arms: Mapping[ArmName, Arm], stack: ExitStack) -> Front | None:
    """The one that `ingress.control` names. Raises UsageError for an address that is none; asks it nothing yet."""
    config = scenario.ingress
    if config is None:
        return None
    assert config.control is not None
    assert config.url is not None
    return _front(config, config.control, config.url, arms, stack)


def missing_ingress(scenario: Scenario) -> str | None:
    """Why the one that should be started cannot run here; None if nothing is missing."""
    if scenario.ingress is None:
        return None
    return haproxy.available() if scenario.ingress.server == "haproxy" else envoy.available()


def start_ingress(
    scenario: Scenario, folder: RunFolder, journal: Journal, servers: Mapping[ArmName, EmbeddedServer], stack: ExitStack
) -> Front | None:
    """The real one that `ingress.server` names; it ends with `stack`."""
    config = scenario.ingress
    if config is None:
        return None
    http = {name: _host(servers[name].http_url) for name in COMPARED}
    grpc = {name: _host(servers[name].grpc_url) for name in COMPARED}
    apart = servers["baseline"] is not servers["candidate"]
    versions = {name: scenario.arms[name].version or 1 for name in COMPARED}
    kind = EmbeddedHaproxy if config.server == "haproxy" else EmbeddedEnvoy
    router = kind(folder.path / "ingress", http, grpc=grpc if apart else None, versions=None if apart else versions)
    with journal.action("ingress.start", str(config.server)):
        stack.callback(router.stop)
        router.start()
    url = router.grpc_url if config.over == "grpc" else router.http_url
    assert url is not None
    arms = {name: scenario.arms[name].arm(url) for name in COMPARED}
    return replace(_front(config, (router.control,), url, arms, stack), check=router.check)


def _front(
    config: IngressConfig, control: Sequence[str], url: str, arms: Mapping[ArmName, Arm], stack: ExitStack
) -> Front:
    routers = tuple(open_ingress(address) for address in control)
    for router in routers:
        stack.callback(router.close)
    baseline = arms["baseline"]
    api: Api = baseline.api if url.startswith("http") else "kserve"
    # What the arms' servers are told in headers is no business of the ingress.
    entry = replace(
        baseline, url=url, model=config.model or baseline.model, version=None, api=api, headers=config.headers,
        tls=config.tls.tls() if config.tls else None,
    )  # fmt: skip
    return Front(routers, entry, Routed(config.served_by.lower(), names_of(control), _versions(arms)), config.api)


def names_of(control: Sequence[str]) -> dict[str, ArmName]:
    """What the routers call the arms, as their addresses say. Raises UsageError where they contradict each other."""
    names: dict[str, ArmName] = {}
    for address in control:
        said = parse_qs(urlsplit(address).query)
        for arm in COMPARED:
            name = said.get(arm, [arm])[-1]
            if names.setdefault(name, arm) != arm:
                raise UsageError(f"{address}: {name} is the {arm} here, and the {names[name]} at another router")
    return names


def _versions(arms: Mapping[ArmName, Arm]) -> dict[str, ArmName]:
    """By the version alone, where it tells the arms apart."""
    found = {str(arms[name].version): name for name in COMPARED if arms[name].version is not None}
    return found if len(found) == len(COMPARED) else {}


def _host(url: str) -> str:
    return url.partition("://")[2]
