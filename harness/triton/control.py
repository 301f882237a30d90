"""One Triton server, as its operator sees it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import LoadFailed, LoadMismatch
from harness.tensors import Tensor
from harness.triton.access import Access
from harness.triton.address import open_transport
from harness.triton.answer import Answer
from harness.triton.batching import KEY, Batching, check_batches
from harness.triton.dependents import dependents, steps
from harness.triton.index import Index
from harness.triton.info import decoupled, model_info
from harness.triton.probe import fault, probe_inputs
from harness.triton.statistics import Counts, counts
from harness.triton.transport import Refused
from harness.triton.versions import Change, ModelVersions, Patience
from harness.types import ModelInfo


class Control:
    """Version-safe control of the Triton at `url` (grpc://host:8001 or http://host:8000; grpcs://, https://).

    `access`: headers and certificates that go with every call. `timeout_s` bounds each question,
    `load_timeout_s` a load until its versions are READY, `drain_timeout_s` the wait for versions that leave.
    Nothing is sent before the first call.

    Every method raises Unreachable (one line, naming the URL) if nobody answers in time, and `Refused`,
    a WorldError, where Triton says no.
    """

    def __init__(
        self,
        url: str,
        access: Access | None = None,
        timeout_s: float = 5.0,
        *,
        load_timeout_s: float = 600.0,
        drain_timeout_s: float = 60.0,
    ) -> None:
        self.url = url
        self._server = open_transport(url, access or Access(), timeout_s)
        self._patience = Patience(load_timeout_s, drain_timeout_s)

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.close()

    @property
    def caution(self) -> str:
        """What a load by this address does to others, in a line; "" over gRPC, where it does nothing to them.

        Triton's HTTP threads each serve many connections, and a load call keeps its thread until the load ends.
        """
        if self.url.startswith("grpc"):
            return ""
        return (
            f"{self.url}: until a load over HTTP ends, Triton answers nothing on the open HTTP connections that share "
            "its thread; load through the grpc:// address instead"
        )

    def live(self) -> bool:
        """Whether the server says that it is up."""
        return self._server.live()

    def server_ready(self) -> bool:
        """What a Kubernetes probe on the *server's* readiness would see. It is no one's readiness to serve:

        it is False while any version loads, and stays False after one failed load however well the others
        serve.
        """
        return self._server.server_ready()

    def http_status(self, path: str) -> int | None:
        """What a GET of `path` is answered, as a Kubernetes probe asks it; None over gRPC, which has no paths."""
        return self._server.http_status(path)

    def server(self) -> dict[str, Any]:
        """`name`, `version` (of Triton) and `extensions`."""
        answer = self._server.server()
        return {
            "name": str(answer.get("name", "")),
            "version": str(answer.get("version", "")),
            "extensions": [str(name) for name in answer.get("extensions", [])],
        }

    def index(self) -> Index:
        """The repository index: what Triton knows of each model and version, and why one is not READY."""
        return Index.of(self._server.index())

    def loaded(self, model: str) -> tuple[int, ...]:
        """The READY versions of `model` in rising order; () also for a model that does not exist."""
        return self.index().ready(model)

    def ready(self, model: str, version: int) -> bool:
        """Whether that version itself says that it is ready."""
        return self._server.ready(model, version)

    def wait_ready(self, model: str, version: int, timeout_s: float) -> None:
        """Return once that version is ready. Raises LoadFailed with Triton's reason if it is not in time."""
        deadline = time.monotonic() + timeout_s
        while not self._server.ready(model, version):
            if time.monotonic() >= deadline:
                state = self.index().of_version(model, version)
                said = f"{state.state} {state.reason}".strip() if state else "not in the index"
                raise LoadFailed(f"{model}: version {version} is not ready after {timeout_s:g} s: {said}")
            time.sleep(0.05)

    def metadata(self, model: str, version: int | None = None) -> ModelInfo:
        """What the served version says of itself; without `version`, the one that Triton would choose (the
        highest).

        Shapes have no batch dimension. `versions` are the READY ones of the whole model.
        """
        served = self.index().ready(model)
        return model_info(self._server.metadata(model, version), self._server.config(model, version), served)

    def counts(self, model: str) -> dict[int, Counts]:
        """How many requests each READY version has answered since it was loaded; {} where none is READY."""
        try:
            return counts(self._server.statistics(model))
        except Refused as refusal:
            if refusal.unknown:
                return {}
            raise

    def infer(self, model: str, version: int | None, tensors: Sequence[Tensor], timeout_s: float = 30.0) -> Answer:
        """One request, and all that is answered to it; without `version`, by the one that Triton chooses.

        A decoupled model's answers come as one: see `answer.joined`.
        """
        send = self._server.stream if decoupled(self._server.config(model, version)) else self._server.infer
        return send(model, version, tensors, timeout_s)

    def probe(self, model: str, version: int | None, seed: int = 0, timeout_s: float = 30.0) -> Answer:
        """Ask that version once, with inputs made from its metadata: seeded noise, or a short text.

        Raises LoadMismatch, which says what it answered, where that is an error, another version, no outputs,
        or outputs that are not of their type or hold no finite number.
        """
        who = model if version is None else f"{model}: version {version}"
        try:
            info = self.metadata(model, version)
            answer = self.infer(model, version, probe_inputs(info, seed), timeout_s)
        except Refused as refusal:
            raise LoadMismatch(f"{who} does not answer a probe: {refusal}") from refusal
        if wrong := fault(answer, info, version):
            raise LoadMismatch(f"{who} does not answer a probe properly: {wrong}")
        return answer

    def dependents(self, model: str) -> tuple[str, ...]:
        """The READY ensembles with a step on `model`, also through other ensembles."""
        index = self.index()
        others = [name for name in index.models if name != model and index.ready(name)]
        return dependents(model, {name: self._server.config(name, None) for name in others})

    def steps(self, model: str, version: int | None = None) -> tuple[tuple[str, int], ...]:
        """Model and version of each step of an ensemble, in order; () for any other model.

        A step that names no version goes with the highest READY one: the one that is so now, which a load changes.
        """
        index = self.index()
        named = steps(self._server.config(model, version))
        return tuple((name, number if number > 0 else max(index.ready(name), default=-1)) for name, number in named)

    def set_versions(
        self,
        model: str,
        desired: Sequence[int],
        *,
        repository: Path | None = None,
        expected: Sequence[int] | None = None,
        refresh: bool = False,
    ) -> Change:
        """Make exactly `desired` the READY versions of `model`; versions that stay keep serving meanwhile.

        With `repository` (the server's model repository, as this machine sees it) each version must have its
        directory before anything is sent: VersionMissing. An empty set is a UsageError: use `unload`.
        Afterwards the repository index is compared and each version asked: LoadFailed with Triton's reason,
        or LoadMismatch where Triton reported success and the index says otherwise. Both say what serves now.
        Triton is asked to load nothing if the set is already as wanted.

        `expected`: the READY versions that the caller saw; ChangedMeanwhile, and nothing is sent, where others are
        READY now. Also ChangedMeanwhile: somebody else's load outlasts our patience, or their change shows after
        ours. `refresh`: the `config.pbtxt` of `repository` becomes the configuration, and it is sent in any case.
        """
        return ModelVersions(self._server, model, self._patience, repository).set(desired, expected, refresh)

    def config(self, model: str, version: int | None = None) -> dict[str, Any]:
        """The configuration with which that version serves, in its JSON form; without `version`, the highest's."""
        return self._server.config(model, version)

    def batching(self, model: str) -> dict[int, Batching]:
        """The dynamic batcher's setting of each READY version, as it serves, once nothing of the model is loading.

        While a version is initialised anew it still says, and does, what it did before.
        """
        served = ModelVersions(self._server, model, self._patience).settled().ready(model)
        return {version: Batching.of(self._server.config(model, version)) for version in served}

    def set_batching(
        self, model: str, wanted: Batching, *, expected: Sequence[int] | None = None, always: bool = False
    ) -> Change:
        """Make `wanted` the dynamic batcher's setting of every version that serves, by one load that names them all.

        The versions are initialised anew, one after the other, and requests are answered meanwhile. Nothing is sent
        where it is so already, unless `always`: a load whose caller is gone may be under way unseen, and one that is
        sent now comes after it. `expected`, and what is raised: as `set_versions`; UsageError where the model serves no
        version or cannot be batched so; LoadMismatch where Triton reported success and a version says otherwise.
        """
        served = self.loaded(model) if expected is None else tuple(sorted(expected))
        if served:
            check_batches(model, self._server.config(model, served[0]), wanted)
        if not always and served and self.batching(model) == dict.fromkeys(served, wanted):
            return Change(model, served, served, served, False, (), 0.0)
        change = ModelVersions(self._server, model, self._patience).configure({KEY: wanted.section}, expected)
        for version, now in self.batching(model).items():
            if now != wanted:
                raise LoadMismatch(f"{model}: Triton reported success, but version {version} has {now}, not {wanted}")
        return change

    def unload(self, model: str) -> Change:
        """Take every version of `model` out; one that is not loaded is fine. LoadFailed, LoadMismatch."""
        return ModelVersions(self._server, model, self._patience).unload()
