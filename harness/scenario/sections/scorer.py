"""Scorers: who says how good an answer is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.scenario.fields import DAY_S, Duration, Section, Wrong, between, path_of
from harness.units import found

BUILT_IN = ("exact", "contains", "regex", "json", "tool_call")
EXPECTS = ("exact", "contains", "tool_call")


class ScorerConfig(Section):
    """One scorer: a built-in one, a Python function, or a command. It gives each answer 0 (wrong) to 1 (right)."""

    use: str | None = Field(
        None,
        min_length=1,
        description="exact, contains, regex, json or tool_call; a function of (prompt, answer, expected) as "
        "module:function or file.py:function; or the name of an entry point in the group triton_canary.scorers",
    )
    command: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (),
        description="instead: a program that reads JSON lines of {prompt, answer, expected, tool_calls} and writes one "
        "score a line; it runs in the folder of the scenario file",
    )
    pattern: str | None = Field(
        None, min_length=1, description="of regex: what is looked for; otherwise each prompt's expected"
    )
    schema_file: str | None = Field(
        None, alias="schema", min_length=1, description="of json: a JSON Schema; from the folder of the scenario file"
    )
    timeout_s: Duration = Field(60.0, alias="timeout", description="of a command: for all answers of a stage")
    folder: str = Field(".", min_length=1, validate_default=True, description="where a command runs")

    @property
    def expects(self) -> bool:
        """It holds answers against what the prompts expect."""
        return self.use in EXPECTS or (self.use == "regex" and self.pattern is None)

    @field_validator("schema_file", "folder", mode="after")
    @classmethod
    def _from_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        return path_of(value, "scorers", info) if value else value

    @field_validator("use", mode="after")
    @classmethod
    def _function(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or value in BUILT_IN:
            return value
        place, colon, name = value.rpartition(":")
        if colon and not (place and name.isidentifier()):
            raise ValueError(f"expected module:function or file.py:function, found {found(value)}")
        return f"{path_of(place, 'scorers', info)}:{name}" if place.endswith(".py") else value

    @model_validator(mode="after")
    def _fits(self) -> ScorerConfig:
        if (self.use is None) == (not self.command):
            raise Wrong(
                f"give use (such as use: {BUILT_IN[0]}) or command, {'neither' if not self.use else 'not both'}"
            )
        if self.pattern is not None and self.use != "regex":
            raise Wrong("only regex has a pattern", "pattern")
        if self.schema_file is not None and self.use != "json":
            raise Wrong("only json has a schema", "schema")
        between(self.timeout_s, 0.1, DAY_S, "timeout")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise Wrong(
                    f"expected a regular expression, found {found(self.pattern)} ({error})", "pattern"
                ) from error
        if self.schema_file is not None:
            try:
                json.loads(Path(self.schema_file).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise Wrong(f"expected a JSON Schema, found {self.schema_file}: {error}", "schema") from error
        return self
