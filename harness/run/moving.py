"""Traffic that is moved: written to the journal before and after, as every action of a run."""

from __future__ import annotations

from collections.abc import Mapping

from harness.errors import WorldError
from harness.ingress import Ingress
from harness.run.journal import Journal
from harness.types import ArmName


def route(journal: Journal, ingress: Ingress, candidate_share: float) -> None:
    """Change the split. To give the baseline everything it need not be known: then that is what to go back to, too."""
    try:
        before = ingress.read().candidate_share
    except WorldError:
        if candidate_share:
            raise
        before = 0.0
    with journal.action("route.set", ingress.target, before=before, wanted=candidate_share):
        ingress.set(candidate_share)


def route_headers(journal: Journal, ingress: Ingress, values: Mapping[str, ArmName]) -> None:
    """Make exactly `values` of the routed header lead to an arm. Nothing is written where it is so already."""
    before = dict(ingress.read().headers)
    if before == dict(values):
        return
    with journal.action("route.header", ingress.target, before=before, wanted=dict(values)):
        ingress.header(values)
