"""Verdict and recording to what people and machines read: HTML, Markdown, JUnit, terminal."""

from harness.report import terminal
from harness.report.render import render

__all__ = ["render", "terminal"]
