"""Metrics pages: Triton's, the DCGM exporter's, vLLM's and TensorRT-LLM's, in the same words and units."""

from __future__ import annotations

from harness.telemetry.pages.engines import engine_of, unsaid
from harness.telemetry.pages.page import Page, in_order
from harness.telemetry.pages.parse import parse

__all__ = ["Page", "engine_of", "in_order", "parse", "unsaid"]
