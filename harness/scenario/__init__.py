"""YAML to Scenario (strict), and Scenario to Plan: every due time, arm and prompt fixed by the seed."""

from harness.scenario.description import Description, GateFacts, StageFacts, describe
from harness.scenario.editor_schema import json_schema
from harness.scenario.loading import (
    EMBEDDED_S3,
    EMBEDDED_TRITON,
    EMBEDDING_MODEL,
    LANGUAGE_MODEL,
    BuiltIn,
    built_in,
    from_gate,
    load,
    load_rules,
)
from harness.scenario.metrics import JUDGED
from harness.scenario.model import Scenario
from harness.scenario.operations import (
    MOST_DELAY_S,
    BatchSetting,
    MultiModelServer,
    MultiRegion,
    NightBatch,
    Operation,
    RepoSync,
    RetireModel,
    SentLoad,
    SharedModel,
    next_time,
)
from harness.scenario.places import PlaceConfig, RegionConfig, StoreConfig
from harness.scenario.plan import PAYLOADS, Plan, plan, requests
from harness.scenario.sections import (
    ArmConfig,
    DeployConfig,
    GateConfig,
    LoadConfig,
    OnFailConfig,
    OnPromoteConfig,
    StageConfig,
    TargetConfig,
    TelemetryConfig,
)

__all__ = [
    "EMBEDDED_S3",
    "EMBEDDED_TRITON",
    "EMBEDDING_MODEL",
    "JUDGED",
    "LANGUAGE_MODEL",
    "MOST_DELAY_S",
    "PAYLOADS",
    "ArmConfig",
    "BatchSetting",
    "BuiltIn",
    "DeployConfig",
    "Description",
    "GateConfig",
    "GateFacts",
    "LoadConfig",
    "MultiModelServer",
    "MultiRegion",
    "NightBatch",
    "OnFailConfig",
    "OnPromoteConfig",
    "Operation",
    "PlaceConfig",
    "Plan",
    "RegionConfig",
    "RepoSync",
    "RetireModel",
    "Scenario",
    "SentLoad",
    "SharedModel",
    "StageConfig",
    "StageFacts",
    "StoreConfig",
    "TargetConfig",
    "TelemetryConfig",
    "built_in",
    "describe",
    "from_gate",
    "json_schema",
    "load",
    "load_rules",
    "next_time",
    "plan",
    "requests",
]
