"""Walks the plan: the composition root, the journal, and putting things back."""

from harness.run.conclude import write_verdict
from harness.run.execute import Result, execute
from harness.run.recover import recover

__all__ = ["Result", "execute", "recover", "write_verdict"]
