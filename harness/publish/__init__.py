"""Sends a verdict's figures to what monitors: Prometheus' Pushgateway, and whatever takes OTLP over HTTP."""

from harness.publish.endpoint import Endpoint, address, otlp_endpoint

__all__ = ["Endpoint", "address", "otlp_endpoint"]
