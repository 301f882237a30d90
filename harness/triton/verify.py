"""What Triton did, compared with what was wanted. The errors say what Triton said, and what serves now."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import ChangedMeanwhile, LoadFailed, LoadMismatch
from harness.triton.index import LOADING, Index
from harness.triton.transport import Refused, Transport


def verify(
    server: Transport,
    model: str,
    wanted: tuple[int, ...],
    before: tuple[int, ...],
    index: Index,
    refusal: Refused | None,
    on_disk: bool,
) -> None:
    """Returns if exactly `wanted` is READY, in the index and by each version's own word.

    `on_disk`: every wanted version was seen to have its directory. Raises LoadFailed with Triton's reason
    (`refusal`, or the index's), LoadMismatch where Triton gave none, ChangedMeanwhile where it can only be that
    somebody else's call came after ours.
    """
    after = index.ready(model)
    absent = [version for version in wanted if version not in after]
    mute = [version for version in wanted if version in after and not server.ready(model, version)]
    extra = [version for version in after if version not in wanted]
    if not (absent or mute or extra) and (refusal is None or refusal.unfinished):
        return
    lost = [version for version in before if version in absent]
    now = serving(after) + (f"; LOST by this call: {numbers(lost)}" if lost else "")
    if loading := index.in_state(model, LOADING):
        raise LoadFailed(
            f"{model}: {listed(loading)} still LOADING when patience ended; Triton may still be at work on it, and "
            f"nothing but a restart of the server stops it; {now}"
        )
    unloaded = [state.version for state in index.states(model) if state.reason == "unloaded"]
    # Triton sets exactly what is asked for, and leaves nothing READY besides.
    if refusal is None and (extra or (on_disk and set(absent) & set(unloaded))):
        raise ChangedMeanwhile(
            f"{model}: somebody else changed what serves at the same time: "
            f"{named(wanted)} {'was' if len(wanted) == 1 else 'were'} set, but {serving(after)}"
        )
    now += _server_note(server)
    if refusal is not None:
        what = f"load of {named(absent)} failed" if absent else "load failed"
        raise LoadFailed(f"{model}: {what}: {_without_preamble(refusal)}; {now}") from refusal
    reasons = [
        f"version {state.version}: {state.reason}"
        for version in absent
        if (state := index.of_version(model, version)) and state.reason not in ("", "unloaded")
    ]
    if reasons:
        raise LoadFailed(f"{model}: {'; '.join(reasons)}; {now}")
    found = []
    if absent:
        found.append(f"{listed(absent)} not READY (is its directory on the server?)")
    if mute:
        found.append(f"{listed(mute)} READY in the index, but not when asked")
    raise LoadMismatch(f"{model}: Triton reported success, but {', and '.join(found)}; {now}")


def serving(ready: Sequence[int]) -> str:
    return f"READY now: {numbers(ready)}" if ready else "NO version is READY now"


def listed(versions: Sequence[int]) -> str:
    return f"{named(versions)} {'is' if len(versions) == 1 else 'are'}"


def named(versions: Sequence[int]) -> str:
    return f"version{'' if len(versions) == 1 else 's'} {numbers(versions)}"


def numbers(versions: Sequence[int]) -> str:
    return ", ".join(str(version) for version in versions)


def _server_note(server: Transport) -> str:
    if server.server_ready():
        return ""
    return (
        "; the server as a whole says not ready, so a probe on /v2/health/ready takes it out of service, "
        "until that very version loads (mend it and load it again) or the server restarts"
    )


def _without_preamble(refusal: Refused) -> str:
    text = str(refusal)
    return text.partition("': ")[2].rstrip("; ") if text.startswith("load failed for model '") else text
