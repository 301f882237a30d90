"""The words everyone uses. Frozen, standard library only, no behaviour beyond arithmetic on their own fields.

Times ending in `_ns` are int64 nanoseconds on the monotonic clock, counted from the start of the run.
Derived times, used with exactly these meanings everywhere:

    response_time    done - due     free of coordinated omission
    request_latency  done - sent
    ttft             first - sent   to the first non-empty token
    tpot             (request_latency - ttft) / (osl - 1)
"""

from harness.types.asked import Arm, Gate, ModelInfo, PlannedRequest, Prompt, StagePlan, TensorSpec, Tls
from harness.types.experiment import (
    A_BETTER,
    A_MORE,
    B_BETTER,
    B_MORE,
    MIXED,
    NO_DIFFERENCE,
    NOT_ENOUGH,
    NOTHING,
    Experiment,
    answer_in,
)
from harness.types.follows import (
    ArmStatus,
    Audit,
    CacheUse,
    Finding,
    Look,
    MetricOpinion,
    RunStatus,
    SecondOpinion,
    StageVerdict,
    Verdict,
    WorkerAudit,
)
from harness.types.gauge import Gauge
from harness.types.history import Change, Scale, Worse
from harness.types.seen import Output, Reading, Sample, Score, StageRecord
from harness.types.words import (
    Api,
    ArmName,
    Arrival,
    Assignment,
    CanaryClass,
    CanaryLabel,
    Decision,
    FindingKind,
    LimitKind,
    Mode,
    Outcome,
    Purpose,
    Status,
    Wire,
)

__all__ = [
    "A_BETTER",
    "A_MORE",
    "B_BETTER",
    "B_MORE",
    "MIXED",
    "NOTHING",
    "NOT_ENOUGH",
    "NO_DIFFERENCE",
    "Api",
    "Arm",
    "ArmName",
    "ArmStatus",
    "Arrival",
    "Assignment",
    "Audit",
    "CacheUse",
    "CanaryClass",
    "CanaryLabel",
    "Change",
    "Decision",
    "Experiment",
    "Finding",
    "FindingKind",
    "Gate",
    "Gauge",
    "LimitKind",
    "Look",
    "MetricOpinion",
    "Mode",
    "ModelInfo",
    "Outcome",
    "Output",
    "PlannedRequest",
    "Prompt",
    "Purpose",
    "Reading",
    "RunStatus",
    "Sample",
    "Scale",
    "Score",
    "SecondOpinion",
    "StagePlan",
    "StageRecord",
    "StageVerdict",
    "Status",
    "TensorSpec",
    "Tls",
    "Verdict",
    "Wire",
    "WorkerAudit",
    "Worse",
    "answer_in",
]
