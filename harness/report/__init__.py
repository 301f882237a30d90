"""Verdict and recording to what people and machines read: HTML, Markdown, JUnit, terminal."""

from harness.report import terminal
from harness.report.operation import operation_summary, render_operation
from harness.report.render import render

__all__ = ["operation_summary", "render", "render_operation", "terminal"]
