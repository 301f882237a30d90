"""Metrics pages: Triton's, the DCGM exporter's, vLLM's and TensorRT-LLM's, in the same words and units."""

from __future__ import annotations

from harness.telemetry.pages.engines import unsaid
from harness.telemetry.pages.page import Page, in_order
from harness.telemetry.pages.parse import parse

__all__ = ["Page", "in_order", "parse", "unsaid"]
