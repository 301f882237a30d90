"""The servers that are changed together, and the journal of what was done to them by hand."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.errors import UsageError, WorldError
from harness.run.journal import Journal
from harness.run.lease import held_by_another
from harness.run.machine import Look, look
from harness.run.state import state_folder
from harness.triton import Access, Control
from harness.triton.fleet import addresses, named, waves

Say = Callable[[str], None]
LOCK = "models.lock"


class Site:
    """`servers` in the order in which they are changed; `waves`: those of a wave are changed at the same time.

    `repository` is the model repository of all of them as this machine sees it, or None. `look` reads the memory of a
    server's machine.
    """

    def __init__(
        self, servers: Sequence[Control], repository: Path | None, waves: Sequence[Sequence[str]],
        journal: Journal, locks: Sequence[Path], say: Say, *, fresh: bool = True, look: Look = look,
    ) -> None:  # fmt: skip
        self.servers = tuple(servers)
        self.repository, self.journal, self.say, self.look = repository, journal, say, look
        by_url = {control.url: control for control in servers}
        self.waves = tuple(tuple(by_url[url] for url in wave) for wave in waves)
        self._locks, self._fresh = tuple(locks), fresh
        self._depth = 0

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for control in self.servers:
            control.close()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else on this machine changes these servers inside. Raises UsageError if somebody does, or if a run
        has a lease on one of them.

        Operators on other machines are noticed by the servers' answers: ChangedMeanwhile.
        """
        if self._depth:
            yield
            return
        for control in self.servers:
            if run := held_by_another(control.url):
                raise UsageError(run)
        with ExitStack() as stack:
            for path in self._locks:
                stack.enter_context(locked(path))
            if self._fresh:
                # Somebody may have written since it was opened.
                self.journal.folder.mkdir(parents=True, exist_ok=True)
                self.journal = Journal(self.journal.folder)
            self._depth = 1
            stack.callback(setattr, self, "_depth", 0)
            yield

    def loaded(self, model: str) -> dict[str, tuple[int, ...]]:
        """READY versions by server URL."""
        return {control.url: control.loaded(model) for control in self.servers}


def open_site(
    urls: Sequence[str], access: Access | None = None, repository: Path | None = None, *,
    max_unavailable: str | int = 1, say: Say = lambda _: None, state: Path | Journal | None = None,
    load_timeout_s: float = 600.0, look: Look = look,
) -> Site:  # fmt: skip
    """The servers at `urls`, a name with several addresses standing for a server each. Sends nothing to them.

    `state`: the folder of the journal, or the journal of a run that is under way; without it a folder under
    `$XDG_STATE_HOME/triton-canary/`, named after `urls`.
    Raises UsageError for an address or a `max_unavailable` that cannot be.
    """
    if not urls:
        raise UsageError("no server: give its address, such as --url grpc://host:8001")
    if repository is not None and not repository.is_dir():
        raise UsageError(f"{repository}: is not a folder: give the model repository as this machine sees it")
    found: dict[str, Access | None] = {}
    for url in urls:
        behind = addresses(url)
        for address in behind:
            found.setdefault(address, named(access or Access(), url) if len(behind) > 1 else access)
    controls = [Control(url, shown, load_timeout_s=load_timeout_s) for url, shown in found.items()]
    running = isinstance(state, Journal)
    journal = state if isinstance(state, Journal) else Journal(state.resolve() if state else state_folder(urls))
    return Site(
        controls,
        repository.resolve() if repository else None,
        waves(list(found), max_unavailable),
        journal,
        [journal.folder / LOCK] if state else sorted(state_folder([url]) / LOCK for url in found),
        say,
        fresh=not running,
        look=look,
    )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Raises UsageError where somebody else has it, WorldError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise WorldError(f"{path}: cannot be written: {error.strerror}: --state DIR names another place") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{path.parent.name}: somebody on this machine is changing its models now") from None
        yield
