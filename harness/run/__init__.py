"""Walks the plan: the composition root, the journal, and putting things back."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.run.conclude import write_verdict
    from harness.run.execute import Result, execute
    from harness.run.operations.conclude import judge_again
    from harness.run.operations.operate import operate
    from harness.run.recover import recover
    from harness.run.signals import Interrupted, interruptible

__all__ = ["Interrupted", "Result", "execute", "interruptible", "judge_again", "operate", "recover", "write_verdict"]

# Each when it is first asked for: moving traffic back must not wait for what judges a recording.
_WHERE = {
    "Interrupted": "signals",
    "Result": "execute",
    "execute": "execute",
    "interruptible": "signals",
    "judge_again": "operations.conclude",
    "operate": "operations.operate",
    "recover": "recover",
    "write_verdict": "conclude",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    # The import has put the module of that name here.
    globals()[name] = found
    return found
