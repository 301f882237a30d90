"""OpenTelemetry's protocol over HTTP: the figures of a verdict as gauges."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from harness import __version__
from harness.errors import WorldError
from harness.publish.deliver import deliver
from harness.publish.endpoint import Endpoint
from harness.types import Gauge

# protobuf has no types
DecodeError: Any = import_module("google.protobuf.message").DecodeError

SERVICE = "triton-canary"
CONTENT_TYPE = "application/x-protobuf"
UNITS = {"seconds": "s", "bytes": "By", "joules": "J", "ratio": "1", "per_second": "1/s"}
"""UCUM's sign for OpenMetrics' word; of another word an annotation of it, as UCUM has for what is counted."""


def send(to: Endpoint, gauges: Sequence[Gauge], resource: Mapping[str, str]) -> None:
    """One request with all `gauges`, as of now. Raises Unreachable, or WorldError where something was refused.

    `resource`: attributes of the resource beside service.name and service.version.
    """
    answer = deliver("POST", to, message(gauges, resource, time.time_ns()).SerializeToString(), CONTENT_TYPE)
    try:
        partial = ExportMetricsServiceResponse.FromString(answer).partial_success
    except DecodeError as error:
        raise WorldError(f"{to.shown}: answered with something that is not OTLP") from error
    if partial.rejected_data_points:
        raise WorldError(f"{to.shown}: refused {partial.rejected_data_points} figures: {partial.error_message}")


def message(gauges: Sequence[Gauge], resource: Mapping[str, str], now_ns: int) -> ExportMetricsServiceRequest:
    """The request; `now_ns` since the epoch."""
    request = ExportMetricsServiceRequest()
    ours = request.resource_metrics.add()
    ours.resource.attributes.extend(_attributes({"service.name": SERVICE, "service.version": __version__, **resource}))
    scope = ours.scope_metrics.add()
    scope.scope.name, scope.scope.version = SERVICE, __version__
    for gauge in gauges:
        metric = scope.metrics.add(
            name=gauge.name, description=gauge.help, unit=UNITS.get(gauge.unit, gauge.unit and f"{{{gauge.unit}}}")
        )
        for labels, value in gauge.points:
            metric.gauge.data_points.add(attributes=_attributes(labels), time_unix_nano=now_ns, as_double=value)
    return request


def _attributes(values: Mapping[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=text)) for key, text in values.items()]
