"""YAML to Scenario (strict), and Scenario to Plan: every due time, arm and prompt fixed by the seed."""

from harness.scenario.description import Description, GateFacts, StageFacts, describe
from harness.scenario.editor_schema import json_schema
from harness.scenario.loading import BuiltIn, built_in, from_gate, load, load_rules
from harness.scenario.metrics import JUDGED
from harness.scenario.model import (
    ArmConfig,
    GateConfig,
    LoadConfig,
    OnFailConfig,
    OnPromoteConfig,
    Scenario,
    StageConfig,
    TargetConfig,
    TelemetryConfig,
)
from harness.scenario.plan import PAYLOADS, Plan, plan, requests

__all__ = [
    "JUDGED",
    "PAYLOADS",
    "ArmConfig",
    "BuiltIn",
    "Description",
    "GateConfig",
    "GateFacts",
    "LoadConfig",
    "OnFailConfig",
    "OnPromoteConfig",
    "Plan",
    "Scenario",
    "StageConfig",
    "StageFacts",
    "TargetConfig",
    "TelemetryConfig",
    "built_in",
    "describe",
    "from_gate",
    "json_schema",
    "load",
    "load_rules",
    "plan",
    "requests",
]
