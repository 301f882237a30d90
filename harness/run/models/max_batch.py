"""`max_batch_size`, changed under what serves: config.pbtxt is written, loaded and verified, all of it or nothing.

It is the file that is changed, because an override lives in the server's memory only: the next load would forget it,
and run out of memory again.
"""

from __future__ import annotations

from harness.errors import LoadMismatch, UsageError, WorldError
from harness.run.models.change import ModelChange
from harness.run.models.loading import check_dependents
from harness.run.models.rules import Changed, Rules
from harness.run.models.site import Site
from harness.triton import Control
from harness.triton.max_batch import KEY, edit_max_batch


def set_max_batch(site: Site, model: str, size: int, *, rules: Rules | None = None) -> Changed:
    """Every version that serves is initialised anew with `size`; one model has one configuration for all of them.

    Raises, and has changed nothing: UsageError (the repository is not seen, or it forms no batches), UnsafeChange (an
    ensemble depends on it). Raises, and has put everything back: LoadFailed, LoadMismatch, ChangedMeanwhile,
    Unreachable.
    """
    if site.repository is None:
        raise UsageError(f"{model}: {KEY} is changed in its config.pbtxt: say where the repository is")
    path = site.repository / model / "config.pbtxt"
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise WorldError(f"{path}: cannot be read: {error}") from error
    edited = edit_max_batch(text, size, str(path))
    rules = rules or Rules()
    with site.changing():
        served = site.loaded(model)
        check_dependents(site.servers, model, rules)
        change = ModelChange(
            site, model, served, served, rules, refresh=True, config_before=text, config_after=edited, mark={KEY: size},
            check=lambda control: _verify(control, model, size),
        )  # fmt: skip
        return change.run()


def max_batch(site: Site, model: str, version: int) -> int:
    """With what the version serves. Raises UsageError where the servers differ."""
    found = {int(control.config(model, version).get(KEY, 0)) for control in site.servers}
    if len(found) != 1:
        raise UsageError(f"{model}: its servers have different values of {KEY}: {', '.join(map(str, sorted(found)))}")
    return found.pop()


def _verify(control: Control, model: str, size: int) -> None:
    for version in control.loaded(model):
        if (now := int(control.config(model, version).get(KEY, 0))) != size:
            raise LoadMismatch(f"{model}: Triton reported success, but version {version} has {KEY} {now}, not {size}")
