"""YAML as plain data, with the place of every key and value; and `--set`, which changes it.

The positions are what makes an error message useful, so the data is built from YAML's node tree and not by a
constructor that forgets them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from harness.errors import ScenarioError

Key = tuple[str | int, ...]

# Aliases can make a small file expand without end.
_MOST_NODES = 20_000
_DEEPEST = 30


@dataclass(frozen=True)
class Place:
    """Where something was written: a file with line and column from 1, or a command line argument."""

    source: str
    line: int | None = None
    column: int | None = None

    @property
    def is_argument(self) -> bool:
        return self.source.startswith("--")

    def error(self, key: Key, message: str) -> ScenarioError:
        dotted = ".".join(map(str, key))
        return ScenarioError(message, file=self.source, line=self.line, column=self.column, key=dotted)


@dataclass
class Document:
    """`data` is plain dicts, lists and scalars; `keys` and `values` say where each was written."""

    data: Any
    source: str
    keys: dict[Key, Place] = field(default_factory=dict)
    values: dict[Key, Place] = field(default_factory=dict)

    def place(self, key: Key) -> Place:
        """The place of the value at `key`, or of the nearest parent that was written."""
        while key and key not in self.values:
            key = key[:-1]
        return self.values.get(key, Place(self.source))

    def place_of_key(self, key: Key) -> Place:
        return self.keys.get(key) or self.place(key)

    def put(self, key: Key, value: Document) -> None:
        """Replaces or adds the value at `key`. Raises ScenarioError where the path does not lead anywhere."""
        place = value.place(())
        target = self.data
        for depth, part in enumerate(key):
            last = depth == len(key) - 1
            if isinstance(target, list):
                index = self._index(target, key[: depth + 1], place)
                target[index] = value.data if last else target[index]
                target = target[index]
            elif isinstance(target, dict):
                if last:
                    target[part] = value.data
                elif target.get(part) is None:
                    target[part] = {}
                    self.keys[key[: depth + 1]] = self.values[key[: depth + 1]] = place
                target = target[part]
            else:
                parent = ".".join(map(str, key[:depth]))
                raise place.error(key, f"{parent} is a single value; there is nothing below it")
        for known in (self.keys, self.values):
            for old in [old for old in known if old[: len(key)] == key]:
                del known[old]
        self.keys[key] = place
        self.values[key] = place
        # Below the value every place is the argument itself.

    def _index(self, target: list[Any], key: Key, place: Place) -> int:
        index = key[-1]
        if not isinstance(index, int) or index >= len(target):
            have = f"entries 0 to {len(target) - 1}" if target else "no entries"
            raise place.error(key, f"expected the number of an entry, found {str(index)!r} (it has {have})")
        return index


def read(path: Path, shown: str) -> Document:
    """The document of a YAML file, called `shown` in errors. Raises ScenarioError: unreadable, not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ScenarioError("is not UTF-8 text", file=shown) from error
    except OSError as error:
        raise ScenarioError(f"cannot be read: {error.strerror}", file=shown) from error
    return parse(text, shown)


def parse(text: str, source: str) -> Document:
    """The document of YAML text. Raises ScenarioError: syntax, duplicate keys, keys that are not text."""
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # Some problems are told in two halves.
        detail = " ".join(str(part) for part in (error.problem, error.context) if part)
        place = Place(source, mark.line + 1, mark.column + 1) if mark else Place(source)
        raise place.error((), f"is not YAML: {_one_line(detail)}") from error
    except YAMLError as error:
        raise Place(source).error((), f"is not YAML: {_one_line(str(error))}") from error
    document = Document(None, source)
    document.data = _Builder(yaml, document).build(root, (), 0)
    return document


def override(document: Document, argument: str) -> None:
    """Carries out one `--set a.b=v`; `v` is YAML. Raises ScenarioError naming the argument."""
    name, equals, text = argument.partition("=")
    source = f"--set {argument}"
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise ScenarioError("expected KEY=VALUE such as stages.0.for=30s", file=source)
    key = tuple(int(part) if part.isdecimal() else part for part in parts)
    value = parse(text, source)
    value.values = {(): Place(source)}
    document.put(key, value)


def override_all(document: Document, arguments: Sequence[str]) -> None:
    for argument in arguments:
        override(document, argument)


class _Builder:
    def __init__(self, yaml: YAML, document: Document) -> None:
        self._yaml = yaml
        self._document = document
        self._nodes = 0

    def build(self, node: Any, key: Key, depth: int) -> Any:
        if node is None:
            return None
        place = self._place(node)
        self._nodes += 1
        if self._nodes > _MOST_NODES or depth > _DEEPEST:
            raise place.error(key, "is too large or too deep for a scenario")
        self._document.values[key] = place
        if isinstance(node, MappingNode):
            return self._mapping(node, key, depth)
        if isinstance(node, SequenceNode):
            return [self.build(child, (*key, index), depth + 1) for index, child in enumerate(node.value)]
        return self._scalar(node, key, place)

    def _mapping(self, node: Any, key: Key, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name_node, value_node in node.value:
            name, place = name_node.value, self._place(name_node)
            if not isinstance(name_node, ScalarNode) or not isinstance(name, str):
                raise place.error(key, "expected a word as key, found a list or a mapping")
            path = (*key, name)
            if name in data:
                first = self._document.keys[path]
                raise place.error(path, f"is here twice (first in line {first.line})")
            self._document.keys[path] = place
            data[name] = self.build(value_node, path, depth + 1)
        return data

    def _scalar(self, node: Any, key: Key, place: Place) -> Any:
        tag = str(node.tag).rpartition(":")[2]
        if tag not in ("null", "bool", "int", "float"):
            # Dates and the like are text here.
            return node.value
        try:
            return self._yaml.constructor.construct_object(node)
        except (ConstructorError, ValueError) as error:
            raise place.error(key, f"is not a {tag}: {node.value!r}") from error

    def _place(self, node: Any) -> Place:
        mark = node.start_mark
        return Place(self._document.source, mark.line + 1, mark.column + 1)


def _one_line(text: str) -> str:
    return " ".join(text.split())
