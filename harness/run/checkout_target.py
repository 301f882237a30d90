"""Where a checkout is compared: an embedded Triton of its own, or a server that runs already; both builds on it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.embedded import EmbeddedServer, available
from harness.errors import Unreachable, UsageError
from harness.run.checkout import Checkout
from harness.run.folder import RunFolder
from harness.run.journal import Journal
from harness.run.placing import Placing
from harness.run.target import Target, access_of, open_target
from harness.scenario import Scenario
from harness.triton import Control


@dataclass(frozen=True)
class Comparison:
    """A checkout, and what its builds are called on the server. `unfit`: they are loaded though they may not fit."""

    checkout: Checkout
    token: str
    unfit: bool = False

    def open(
        self, scenario: Scenario, folder: RunFolder, journal: Journal, stack: ExitStack, say: Callable[[str], None]
    ) -> Target:
        """Both builds are put where they serve, under one server: the conditions are the same, and each model's
        processes, memory and counters are told apart by its name.

        Raises DoesNotLoad where the checkout's build does not, and what `open_target` and `Placing.all` raise.
        """
        if scenario.target.server is None:
            assert scenario.target.url is not None
            assert scenario.target.repository is not None
            self._place(scenario, scenario.target.url, Path(scenario.target.repository).resolve(), journal, say)
            return open_target(scenario, folder, journal, stack)
        if missing := available():
            raise UsageError(missing)
        repository = folder.path / "models"
        repository.mkdir()
        # Weights are large, and the folder of a run is kept.
        stack.callback(partial(shutil.rmtree, repository, ignore_errors=True))
        server = EmbeddedServer(repository, folder.path / "server.log")
        with journal.action("server.start", "embedded", wanted={"repository": str(repository)}):
            stack.callback(server.stop)
            server.start()
        try:
            self._place(scenario, server.grpc_url, repository, journal, say)
        except Unreachable:
            server.check()  # its last words say more
            raise
        arms = {name: config.arm(server.grpc_url) for name, config in scenario.arms.items()}
        controls = {name: stack.enter_context(Control(arm.url, access_of(arm))) for name, arm in arms.items()}
        return Target(
            arms=arms, pages=(server.metrics_url,), repositories=dict.fromkeys(arms, repository), server_pid=server.pid,
            ours_to_change=False, check=server.check, controls=controls,
        )  # fmt: skip

    def _place(
        self, scenario: Scenario, url: str, repository: Path, journal: Journal, say: Callable[[str], None]
    ) -> None:
        names = {arm: self.checkout.names(arm, self.token) for arm in self.checkout.builds}
        with Control(url, access_of(scenario.baseline.arm(url))) as control:
            Placing(self.checkout, names, control, repository, journal, say, self.unfit).all()
