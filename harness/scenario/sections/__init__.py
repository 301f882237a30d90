"""The sections of a scenario file, each checked by itself; what must hold between them is in `rules`.

The field descriptions are the reference of the file format; the JSON Schema for editors is made from them.
"""

from harness.scenario.sections.gate import GateConfig, GateField
from harness.scenario.sections.ingress import IngressConfig
from harness.scenario.sections.level import Leg, SweepConfig
from harness.scenario.sections.load import LoadConfig, SyntheticConfig
from harness.scenario.sections.outcome import OnFailConfig, OnPromoteConfig, ScaleConfig, TelemetryConfig
from harness.scenario.sections.scorer import ScorerConfig
from harness.scenario.sections.sending import SendingConfig
from harness.scenario.sections.stage import DeployConfig, StageConfig
from harness.scenario.sections.target import ArmConfig, CalledConfig, TargetConfig
from harness.scenario.sections.tls import TlsConfig

__all__ = [
    "ArmConfig",
    "CalledConfig",
    "DeployConfig",
    "GateConfig",
    "GateField",
    "IngressConfig",
    "Leg",
    "LoadConfig",
    "OnFailConfig",
    "OnPromoteConfig",
    "ScaleConfig",
    "ScorerConfig",
    "SendingConfig",
    "StageConfig",
    "SweepConfig",
    "SyntheticConfig",
    "TargetConfig",
    "TelemetryConfig",
    "TlsConfig",
]
