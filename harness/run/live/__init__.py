"""`--live`: the report of a run under way, in a browser on this machine, drawn and served by a process of its own."""

from harness.run.live.start import LivePage

__all__ = ["LivePage"]
