"""The actions of a run: each is written to the journal before and after, and knows what was there before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import WorldError
from harness.run.costs import measured
from harness.run.journal import Journal
from harness.run.machine import look
from harness.triton import Control, persist_versions


def set_versions(
    journal: Journal, control: Control, model: str, wanted: Sequence[int], repository: Path | None = None,
    *, action: str = "models.set",
) -> None:  # fmt: skip
    """Make exactly `wanted` the served versions of `model`, and note what those that join cost in memory. Nothing is
    written where it is so already.

    Raises ChangedMeanwhile, and nothing was sent, where somebody else changes them between our look and our call.
    """
    before = list(control.loaded(model))
    if sorted(wanted) == sorted(before):
        return
    joining = sorted(set(wanted) - set(before))
    with (
        measured(journal, control, model, joining, repository, look),
        journal.action(action, f"{control.url}/{model}", before=before, wanted=sorted(wanted)),
    ):
        if wanted:
            control.set_versions(model, wanted, repository=repository, expected=before)
        else:
            control.unload(model)


def apply_versions(control: Control, model: str, wanted: Sequence[int], repository: Path | None = None) -> None:
    """An empty set means that the model is unloaded: `set_versions` of the Triton side refuses to guess that."""
    if wanted:
        control.set_versions(model, wanted, repository=repository)
    else:
        control.unload(model)


def persist(journal: Journal, config: Path, versions: Sequence[int]) -> None:
    """Make `config.pbtxt` say what is served, so that a restart keeps it."""
    try:
        before = config.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise WorldError(f"{config}: cannot be read: {error}") from error
    with journal.action("config.write", str(config), before=before, wanted=sorted(versions)):
        persist_versions(config, versions)
