"""multi-region: one bucket into the repository of each region; every region is looked at, whatever the others do."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from harness.errors import LoadMismatch, StoreError, UsageError, WorldError
from harness.judge import judge_operation
from harness.judge.operations.regions import region_of
from harness.run.embedded_store import build_and_publish
from harness.run.models import Rules, Site, load, restore, sync_and_load
from harness.run.operations.course import Course, Place
from harness.scenario import MultiRegion, RegionConfig
from harness.store import MANIFEST, Manifest, Store
from harness.tensors import DTYPES, Tensor, decode, tensor
from harness.triton import Control
from harness.triton.probe import FLOATS, fault, probe_inputs
from harness.types import ModelInfo

MOST_VALUES = 16_384
"""Of a float output that has more, so many values are kept, at even distances; its digest is of all."""
_LONGEST_TEXT = 300


def observe(course: Course) -> None:
    """Sync, load and ask region after region, then put back those that failed."""
    scenario = course.scenario
    assert isinstance(scenario, MultiRegion)
    course.note(
        model=scenario.model, version=scenario.version, probes=len(scenario.asked), published=None,
        regions=[{"name": config.name} for config in scenario.regions],
    )  # fmt: skip
    store = course.open_store(scenario.store)
    if scenario.embedded:
        course.say(f"publishing {scenario.model} version {scenario.version}, built once")
        build_and_publish(store, scenario.model, scenario.version, "fp16")
    course.note(published={"files": _files(_published(store, scenario))})
    regions = [
        _Region(course, scenario, config, facts)
        for config, facts in zip(scenario.regions, course.facts["regions"], strict=True)
    ]
    for region in regions:
        region.bring(store)
    for region in regions:
        region.look()
    failed = {
        region_of(finding.metric) for finding in judge_operation(course.facts).findings if finding.outcome == "fail"
    }
    for region in regions:
        if region.name in failed:
            region.put_back()


class _Region:
    """What happens in one region stays in its facts: the others get their turn."""

    def __init__(self, course: Course, scenario: MultiRegion, config: RegionConfig, facts: dict[str, Any]) -> None:
        self._course, self._scenario, self._config, self._facts = course, scenario, config, facts
        self._place: Place | None = None
        self._changed = False
        self._before: dict[str, tuple[int, ...]] = {}

    @property
    def name(self) -> str:
        return self._config.name

    def bring(self, store: Store) -> None:
        """Open it, sync, load."""
        self._course.say(f"{self.name}: sync and load")
        self._note(error=self._attempt(lambda: self._bring(store)))

    def look(self) -> None:
        """At the bytes in its repository, at what serves, and at what its first server answers."""
        if self._place is not None:
            place = self._place
            self._note(url=place.control.url)
            self._attempt(lambda: self._note(files=self._bytes(place)))
            error = self._attempt(lambda: self._note(ready=place.ready(self._scenario.model)))
            if self._scenario.version in self._facts.get("ready", ()):
                self._course.say(f"{self.name}: {len(self._scenario.asked)} probes, each twice")
                error = self._attempt(lambda: self._ask(place.control)) or error
            self._note(error=self._facts["error"] or error)

    def put_back(self) -> None:
        """What this run has loaded here leaves again; the directory stays: versions are never deleted by a sync."""
        if not self._changed or self._place is None:
            return
        site, model = self._place.site, self._scenario.model
        self._course.say(f"{self.name}: back to what served before")
        error = self._attempt(lambda: restore(site, model, undo=True)) or self._differs(site, model)
        self._note(put_back=error or "the versions from before serve")

    def _differs(self, site: Site, model: str) -> str:
        """An undo is of the last change; where the sync made one and the load another, the first is still there."""
        now = site.loaded(model)
        return "" if now == self._before else f"READY are {now}, and not {self._before} as before"

    def _bring(self, store: Store) -> None:
        scenario = self._scenario
        # Embedded regions serve version 1 already, and get the new one beside it.
        place = self._course.open_place(self._config, {scenario.model: {1: "fp16"}}, self.name)
        self._place = place
        rules = Rules(versioned_clients=scenario.versioned_clients or scenario.embedded)
        with self._course.journal.action("region.sync", self.name, wanted=f"{scenario.model}/{scenario.version}"):
            before = place.site.loaded(scenario.model)
            deployed = sync_and_load(
                place.site, store, models=[scenario.model], versions=[scenario.version], rules=rules
            )
            self._changed, self._before = place.site.loaded(scenario.model) != before, before
            self._facts["sync"] = asdict(deployed.result)
            if any(scenario.version not in served for served in place.site.loaded(scenario.model).values()):
                # It lay there already, so for the sync nothing had changed.
                load(place.site, scenario.model, [scenario.version], rules=rules)
                self._changed = True

    def _bytes(self, place: Place) -> dict[str, Any] | None:
        folder = place.repository / self._scenario.model / str(self._scenario.version)
        if not folder.is_dir():
            return None
        return _files(Manifest.of_folder(folder, self._scenario.model, self._scenario.version))

    def _ask(self, control: Control) -> None:
        info = control.metadata(self._scenario.model, self._scenario.version)
        answers = []
        for seed, text in self._scenario.asked:
            inputs = _inputs(info, seed, text)
            answers.append({"seed": seed, "answers": [self._answer(control, info, inputs) for _ in range(2)]})
            self._facts["answers"] = answers
        self._course.save()

    def _answer(self, control: Control, info: ModelInfo, inputs: Sequence[Tensor]) -> list[dict[str, Any]]:
        model, version = self._scenario.model, self._scenario.version
        answer = control.infer(model, version, inputs)
        if wrong := fault(answer, info, version):
            raise LoadMismatch(f"{model} version {version} does not answer a probe properly: {wrong}")
        return [_output(output) for output in answer.outputs]

    def _note(self, **facts: Any) -> None:
        self._facts.update(facts)
        self._course.save()

    @staticmethod
    def _attempt(step: Callable[[], object]) -> str:
        """What failed, in one line; "" if nothing did. A signal is no failure of a region."""
        try:
            step()
        except (WorldError, UsageError) as error:
            return str(error)
        return ""


def _published(store: Store, scenario: MultiRegion) -> Manifest:
    name = f"{scenario.model}/{scenario.version}"
    stored = store.list(f"{name}/").files.get(f"{name}/{MANIFEST}")
    if stored is None:
        raise StoreError(f"{store.url}: has no manifest of {name}: publish it with triton-canary models publish")
    return Manifest.from_bytes(b"".join(store.read(stored)), f"{store.url}/{stored.key}")


def _files(manifest: Manifest) -> dict[str, Any]:
    return {path: {"size": entry.size, "sha256": entry.sha256} for path, entry in sorted(manifest.files.items())}


def _inputs(info: ModelInfo, seed: int, text: str | None) -> list[Tensor]:
    inputs = probe_inputs(info, seed)
    if text is None:
        return inputs
    if not info.is_token_model:
        raise UsageError(f"{info.name} has no text_input, so prompts are no probes of it")
    own = {spec.name: tensor(spec, info.max_batch_size, [text]) for spec in info.inputs if spec.name == "text_input"}
    return [own.get(one.name, one) for one in inputs]


def _output(output: Tensor) -> dict[str, Any]:
    """As observations.json keeps it: the digest of all bytes, and what a judge or a person wants to see of them."""
    facts: dict[str, Any] = {
        "name": output.name,
        "datatype": output.datatype,
        "shape": list(output.shape),
        "digest": hashlib.sha256(output.raw).hexdigest(),
    }
    if output.datatype in FLOATS:
        values = np.frombuffer(output.raw, DTYPES.get(output.datatype, "<u2"))
        step = -(-len(values) // MOST_VALUES) or 1
        facts |= {"raw": base64.b64encode(values[::step].tobytes()).decode(), "sampled": step > 1}
    elif output.datatype == "BYTES":
        said = b" ".join(decode("BYTES", output.raw)).decode(errors="replace")
        facts["text"] = said[:_LONGEST_TEXT]
    return facts
