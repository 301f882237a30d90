"""Where rows are measured: a server, its repository, and little models of our own that come and go with each row."""

from __future__ import annotations

import itertools
import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from harness.errors import LoadFailed, UsageError, WorldError
from harness.triton.conformance.api import CALL_TIMEOUT_S, Answer, Api, Traffic, ask
from harness.triton.conformance.row import NotRun
from harness.triton.protobuf import ModelConfig, json_format, text_format

PREFIX = "canary-conformance-"
SERVED = Path(__file__).with_name("served.py")
COUNTED_S = 30.0

CONFIG: dict[str, Any] = {
    "backend": "python",
    "max_batch_size": 0,
    "input": [{"name": "SECONDS", "data_type": "TYPE_FP32", "dims": [1]}],
    "output": [{"name": "SERVED", "data_type": "TYPE_INT64", "dims": [2]}],
    "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
}


class Addresses(NamedTuple):
    """A server's: `http` and `metrics` are URLs, `grpc` is host:port."""

    http: str
    grpc: str
    metrics: str


Launch = Callable[[Sequence[str]], AbstractContextManager[Addresses]]
"""Starts a server of our own on the repository, with further arguments, and stops it at the end of the block."""


class Model:
    """One little model: its folder in the repository, and Triton's calls about it."""

    def __init__(self, api: Api, folder: Path, config: dict[str, Any]) -> None:
        self.api, self.folder, self.name = api, folder, folder.name
        self._config = config
        self._failing: set[int] = set()

    def at(self, api: Api) -> Model:
        """The same model, on another server."""
        return Model(api, self.folder, self._config)

    # ------------------------------------------------------------ its files

    def write(self, version: int, *, held: bool = False, fails: bool = False, bytecode: bool = False) -> None:
        """A version's folder. `held`: loading waits for `release`; `fails`: loading raises.

        Unless `bytecode`, an empty file stands where Python would make the folder `__pycache__`: without it the
        Python backend's stub changes the version's folder as it loads (see the row bytecode-is-a-change).
        """
        folder = self.folder / str(version)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)  # the server may be another user, and writes into it too
        shutil.copyfile(SERVED, folder / "model.py")
        (folder / "behaviour.json").write_text(json.dumps({"held": held, "fails": fails}))
        if bytecode:
            (folder / "__pycache__").unlink(missing_ok=True)
        else:
            (folder / "__pycache__").touch()
        (self._failing.add if fails else self._failing.discard)(version)

    def write_config(self, *versions: int, **changes: Any) -> None:
        """`config.pbtxt` with the policy `specific {versions}`, or without any policy."""
        policy = {"version_policy": {"specific": {"versions": versions}}} if versions else {}
        message = json_format.ParseDict({**self._config, **policy, **changes}, ModelConfig())
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.pbtxt").write_text(text_format.MessageToString(message))

    def release(self, version: int) -> None:
        (self.folder / str(version) / "go").touch()

    # ------------------------------------------------------------ calls about it

    def load(self, parameters: dict[str, Any] | None = None) -> httpx.Response:
        return self.api.load(self.name, parameters)

    def unload(self, parameters: dict[str, Any] | None = None) -> httpx.Response:
        return self.api.unload(self.name, parameters)

    def set(self, *versions: int, **changes: Any) -> httpx.Response:
        """A load with the whole configuration, the policy `specific {versions}`, and `changes` to it."""
        base = self.api.config(self.name) if self.ready() else self._config
        policy = {"version_policy": {"specific": {"versions": versions}}}
        return self.api.load_config(self.name, {**base, **policy, **changes})

    def ready(self) -> list[int]:
        return self.api.ready(self.name)

    def states(self) -> dict[str, str]:
        return self.api.states(self.name)

    def ask(self, version: int | None = None, seconds: float = 0.0) -> Answer:
        return self.api.ask(self.name, version, seconds)

    def traffic(self, version: int) -> Traffic:
        return Traffic(self.api.client(), self.name, version)

    @contextmanager
    def flying(self, version: int, seconds: float = 1.5) -> Iterator[Future[Answer]]:
        """A request that the version is working at when the block begins; its answer is there when it ends.

        NotRun where the server cannot write into its repository: the model says there that it has begun.
        """
        busy = self.folder / str(version) / "busy"
        with self.api.client() as client, ThreadPoolExecutor(1) as pool:
            answer = pool.submit(ask, client, self.name, version, seconds)
            self._wait(lambda: busy.exists() or answer.done(), f"version {version} does not begin a request")
            if not busy.exists():
                raise NotRun("the server cannot write into its repository, where the model says that it has begun")
            yield answer
        busy.unlink(missing_ok=True)

    def until(self, version: int, *states: str) -> str:
        """Waits until the index says one of `states` (their beginnings) of a version, and returns what it says."""
        said = ""

        def seen() -> bool:
            nonlocal said
            said = self.states().get(str(version), "")
            return said.startswith(states)

        self._wait(seen, f"version {version} is not {' or '.join(states)}")
        return said

    def counted(self, number: int) -> dict[str, dict[str, int]]:
        """What the statistics extension counts by version, once it is `number` requests in all.

        Triton counts a request just after it has answered it. Where it does not come to `number`, it is what is there
        after COUNTED_S: how many are counted is for the row to say.
        """
        deadline = time.monotonic() + COUNTED_S
        while True:
            statistics = self.api.statistics(self.name)
            if sum(sum(counts.values()) for counts in statistics.values()) >= number or time.monotonic() > deadline:
                return statistics
            time.sleep(0.02)

    def _wait(self, true: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + CALL_TIMEOUT_S
        while not true():
            if time.monotonic() > deadline:
                raise LoadFailed(f"{self.name}: {otherwise} after {CALL_TIMEOUT_S:g} s")
            time.sleep(0.02)

    def remove(self) -> None:
        """Takes it off the server and out of the repository. The files go also where the server does not answer."""
        try:
            with suppress(WorldError):
                self._withdraw()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _withdraw(self) -> None:
        if failing := sorted(self._failing & {int(version) for version in self.states()}):
            # A failed load keeps the server's own readiness at 400 until that same version loads.
            for version in failing:
                self.write(version)
            self.set(*failing)
        self.unload()
        self._wait(
            lambda: all(state.startswith("UNAVAILABLE") for state in self.states().values()), "it does not go away"
        )


class Site:
    """`launch` is None for a server that we did not start."""

    def __init__(
        self, api: Api, repository: Path, launch: Launch | None = None, names: Iterator[str] | None = None
    ) -> None:
        self.api, self.repository, self._launch = api, repository, launch
        token = secrets.token_hex(4)
        self._names = names or (f"{PREFIX}{token}-{number}" for number in itertools.count(1))
        self._models: list[Model] = []

    @property
    def own(self) -> bool:
        return self._launch is not None

    def model(self, *serve: int, on_disk: Sequence[int] = (1, 2), load: bool = True) -> Model:
        """A new model with versions `on_disk`, and a configuration that says `serve` (none: says nothing of versions).

        LoadFailed where the server does not load it.
        """
        model = self._new(CONFIG)
        for version in on_disk:
            model.write(version)
        model.write_config(*serve)
        if load:
            self._load(model)
        return model

    def ensemble(self, model: Model, version: int) -> Model:
        """A new, loaded ensemble of one step: `model` with `model_version`."""
        tensors = {"input_map": {"SECONDS": "SECONDS"}, "output_map": {"SERVED": "SERVED"}}
        step = {"model_name": model.name, "model_version": version, **tensors}
        config = {key: CONFIG[key] for key in ("max_batch_size", "input", "output")}
        ensemble = self._new({**config, "platform": "ensemble", "ensemble_scheduling": {"step": [step]}})
        (ensemble.folder / "1").mkdir(parents=True)
        ensemble.write_config()
        self._load(ensemble)
        return ensemble

    @contextmanager
    def launched(self, *arguments: str) -> Iterator[tuple[Site, Addresses]]:
        """A further server of our own on the same repository."""
        assert self._launch is not None
        with self._launch(arguments) as addresses:
            other = Site(Api(addresses.http, addresses.metrics), self.repository, None, self._names)
            try:
                yield other, addresses
            finally:
                other.api.close()
                self._models += [model.at(self.api) for model in other._models]

    def clean(self) -> None:
        """Removes every model that was made here."""
        while self._models:
            self._models.pop().remove()

    def _new(self, config: dict[str, Any]) -> Model:
        model = Model(self.api, self.repository / next(self._names), config)
        try:
            model.folder.mkdir()
        except OSError as error:
            raise UsageError(f"{self.repository}: no model can be written into it: {error.strerror}") from error
        self._models.append(model)
        return model

    def _load(self, model: Model) -> None:
        answer = model.load()
        if answer.status_code != httpx.codes.OK:
            raise LoadFailed(f"{self.api.url} does not load the conformance model: {answer.text[:300]}")
        if not model.ready():
            raise WorldError(f"{self.api.url} says that it loaded {model.name}, but its index has no READY version")


def error_of(answer: httpx.Response) -> str:
    """Triton's words in an error's body; "" where there are none."""
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return ""
