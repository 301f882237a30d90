"""Verdict and recording to what people and machines read: HTML, Markdown, JUnit, terminal."""

from harness.report import terminal
from harness.report.looks import looks_table
from harness.report.operation import operation_summary, render_operation
from harness.report.render import render
from harness.report.second_opinion import draw_opinion

__all__ = ["draw_opinion", "looks_table", "operation_summary", "render", "render_operation", "terminal"]
