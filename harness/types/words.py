"""What a thing may be called."""

from __future__ import annotations

from typing import Literal

ArmName = Literal["stable", "baseline", "candidate", "unknown"]
"""unknown: a request through an ingress of which neither the answer nor the ingress said who had it."""
Mode = Literal["paired", "interleaved", "split", "sequential"]
Arrival = Literal["poisson", "constant", "gamma", "trace", "closed"]
Purpose = Literal["compare", "deploy", "soak", "warm-up", "alone"]
Status = Literal["ok", "error", "timeout", "oom", "refused", "cancelled"]
Assignment = Literal["plan", "header", "hash", "observed", "score"]
Api = Literal["kserve", "generate", "openai"]
Wire = Literal["grpc", "grpc-stream", "http", "generate", "generate-stream", "openai", "openai-stream"]
Outcome = Literal["pass", "fail", "inconclusive", "no data"]
LimitKind = Literal["absolute", "share"]
FindingKind = Literal["comparison", "watch", "validity"]
Decision = Literal["promote", "rollback", "inconclusive"]
CanaryLabel = Literal["Pass", "High", "Low", "Nodata", "NodataFailMetric", "Error"]
CanaryClass = Literal["pass", "marginal", "fail"]
