"""models sync, publish: versions from a model store into a repository, and the other way."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from harness.cli.command import Commands, add, duration
from harness.cli.console import stderr, stdout
from harness.cli.models_options import add_rules, add_site, rules_of, site_of, version, warn_of_load
from harness.cli.screen import LINE_EVERY_S
from harness.errors import CanaryError, UsageError
from harness.run.models import Deployed, publish, sync_and_load
from harness.run.signals import Interrupted, interruptible
from harness.store import Progress, open_store


def add_commands(commands: Commands) -> None:
    bring = add(
        commands, "sync", _sync, "bring new versions from a store into a repository, verified, and load what changed",
        "triton-canary models sync s3://bucket/models --repository /models --url grpc://host:8001 --watch 1h",
    )  # fmt: skip
    bring.add_argument("store", help="s3://BUCKET/PREFIX, artifactory+https://HOST/artifactory/REPO/PATH, or a folder")
    bring.add_argument("--model", action="append", metavar="NAME", help="only this one; repeatable")
    _endpoint(bring)
    bring.add_argument("--staging", type=Path, metavar="DIR", help="on the repository's filesystem, outside of it")
    bring.add_argument("--without-manifest", action="store_true", help="take versions that no manifest vouches for")
    bring.add_argument("--dry-run", action="store_true", help="say what would be fetched, and touch nothing")
    bring.add_argument(
        "--watch", type=duration, metavar="TIME", help="again and again with this pause, until SIGTERM or Ctrl-C"
    )
    bring.add_argument(
        "--load", choices=("add", "latest", "no"),
        help="with --url: new versions join what serves (add, the default), or replace it once verified (latest)",
    )  # fmt: skip
    add_site(bring, urls_needed=False)
    add_rules(bring)

    send = add(
        commands, "publish", _publish, "put a version's directory into a store, its manifest last",
        "triton-canary models publish build/2 s3://bucket/models --model llm --version 2 --config config.pbtxt",
    )  # fmt: skip
    send.add_argument("folder", type=Path)
    send.add_argument("store", help="s3://BUCKET/PREFIX, artifactory+https://HOST/artifactory/REPO/PATH, or a folder")
    send.add_argument("--model", required=True, metavar="NAME")
    send.add_argument("--version", type=version, required=True, metavar="N")
    send.add_argument("--config", type=Path, metavar="FILE", help="becomes the model's config.pbtxt in the store")
    _endpoint(send)


def _endpoint(command: argparse.ArgumentParser) -> None:
    command.add_argument("--endpoint", metavar="URL", help="an S3 server other than Amazon's")
    command.add_argument("--workers", type=int, default=4, metavar="N", help="files at the same time (default 4)")


def _sync(args: argparse.Namespace) -> int:
    if args.repository is None:
        raise UsageError("models sync needs the model repository: --repository DIR")
    if args.load and args.load != "no" and not args.url:
        raise UsageError(f"--load {args.load} needs the servers: --url")
    if args.watch is None:
        with interruptible():
            _show(_round(args))
        return 0
    return _watch(args, args.watch)


def _watch(args: argparse.Namespace, pause_s: float) -> int:
    """Round after round; a round that fails is told and the next one comes. Returns the last round's exit code."""
    console, code = stderr(), 0
    with interruptible():
        try:
            while True:
                try:
                    done = _round(args)
                    code = 0  # before it is told: whoever reads the line may end the watch at once
                    stdout().print(_line(done), markup=False)
                except Interrupted:
                    raise
                except CanaryError as error:
                    console.print(f"triton-canary: this round failed: {error}", markup=False)
                    code = error.exit_code
                threading.Event().wait(pause_s)
        except Interrupted as end:
            console.print(f"ended: {end}", markup=False)
    return code


def _round(args: argparse.Namespace) -> Deployed:
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(args.store, endpoint=args.endpoint)))
        site = stack.enter_context(site_of(args)) if args.url else None
        if site is not None:
            warn_of_load(args, site)
        return sync_and_load(
            site, store, args.repository, models=args.model, load=args.load or "add", rules=rules_of(args),
            staging=args.staging, workers=args.workers, without_manifest=args.without_manifest, dry_run=args.dry_run,
            progress=stack.enter_context(_progress("fetching")),
        )  # fmt: skip


def _publish(args: argparse.Namespace) -> int:
    with (
        interruptible(), closing(open_store(args.store, endpoint=args.endpoint)) as store,
        _progress("publishing") as progress,
    ):  # fmt: skip
        manifest = publish(
            store, args.folder, args.model, args.version, config=args.config, workers=args.workers, progress=progress
        )
    stdout().print(
        f"{manifest.name} is in {args.store}: {len(manifest.files)} files, {manifest.size} bytes, manifest last",
        markup=False,
    )
    return 0


def _show(done: Deployed) -> None:
    console, result = stdout(), done.result
    for model, number in result.added:
        console.print(f"{model} {number}: new", markup=False)
    for key in result.configs:
        console.print(f"{key}: changed", markup=False)
    for changed in done.changed:
        for url, ready in changed.after.items():
            console.print(f"{url}: {changed.model} {', '.join(map(str, ready)) or 'none'} READY", markup=False)
    for line in result.skipped:
        stderr().print(line, markup=False)
    console.print(_line(done), markup=False)


def _line(done: Deployed) -> str:
    result = done.result
    new = ", ".join(f"{model} {number}" for model, number in result.added) or "none"
    loaded = ", ".join(dict.fromkeys(changed.model for changed in done.changed)) or "nothing"
    return (
        f"new versions: {new}; {len(result.configs)} configs changed; {len(result.unchanged)} versions unchanged; "
        f"{result.bytes} bytes in {result.took_s:.1f} s; loaded: {loaded}"
    )


@contextmanager
def _progress(what: str) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a line now and then elsewhere. Called from several threads."""
    console = stderr()
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Bar(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda seen: bar.update(task, completed=seen.done_bytes, total=seen.total_bytes)
        return
    due = [time.monotonic() + LINE_EVERY_S]

    def line(seen: Progress) -> None:
        if time.monotonic() >= due[0]:
            due[0] = time.monotonic() + LINE_EVERY_S
            share = 100 * seen.done_bytes / max(1, seen.total_bytes)
            console.print(f"{what}: {share:.0f} %, file {seen.files_done} of {seen.files_total}", markup=False)

    yield line
