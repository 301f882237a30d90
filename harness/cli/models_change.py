"""models load, unload, retire, tune, restore: what serves, changed and brought back."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table

from harness.cli.command import Commands, add, duration
from harness.cli.console import stderr, stdout
from harness.cli.models_options import (
    add_rules,
    add_site,
    needs_repository,
    rules_of,
    site_of,
    sizes,
    version,
    versions,
    warn_of_load,
)
from harness.errors import UsageError
from harness.run.models import Changed, Cycles, Rules, cycles, load, restore, retire, tune, unload
from harness.run.signals import interruptible
from harness.scenario import MOST_DELAY_S
from harness.triton import versions_on_disk


def add_commands(commands: Commands) -> None:
    join = add(
        commands, "load", _load, "make versions READY beside what serves already",
        "triton-canary models load llm --version 2 --url grpc://host:8001 --repository /models --persist",
    )  # fmt: skip
    join.add_argument("model")
    which = join.add_mutually_exclusive_group(required=True)
    which.add_argument("--version", type=version, action="append", metavar="N", help="joins what serves; repeatable")
    which.add_argument("--exactly", type=versions, metavar="N,N", help="these versions, and no others")
    join.add_argument(
        "--cycles", type=int, metavar="N", help="load and unload N times, measure memory, and leave the set as it was"
    )
    join.add_argument("--server-pid", type=int, metavar="PID", help="whose memory is measured, where it is not found")
    add_site(join)
    add_rules(join)

    leave = add(
        commands, "unload", _unload, "take one version out, the others keep serving",
        "triton-canary models unload llm --version 1 --url grpc://host:8001 --repository /models",
    )  # fmt: skip
    leave.add_argument("model")
    leave.add_argument("--version", type=version, action="append", default=[], metavar="N", help="repeatable")
    leave.add_argument("--all", action="store_true", help="the whole model, every version: it stops serving")
    add_site(leave)
    add_rules(leave)

    gone = add(
        commands, "retire", _retire, "unload a version that nobody asks any more, then archive or remove its directory",
        "triton-canary models retire llm --version 1 --window 10m --archive /archive --url grpc://host:8001 "
        "--repository /models",
    )  # fmt: skip
    gone.add_argument("model")
    gone.add_argument("--version", type=version, required=True, metavar="N")
    then = gone.add_mutually_exclusive_group()
    then.add_argument("--keep", action="store_true", help="leave the directory where it is (the default)")
    then.add_argument("--archive", type=Path, metavar="DIR", help="move it to DIR/MODEL/VERSION, compared by SHA-256")
    then.add_argument("--remove", action="store_true", help="delete it")
    gone.add_argument("--staging", type=Path, metavar="DIR", help="on the repository's filesystem, outside of it")
    add_site(gone)
    add_rules(gone, window_s=60.0)

    wait = add(
        commands, "tune", _tune, "how long requests wait to be batched, by a reload that keeps what serves",
        "triton-canary models tune ranker --max-queue-delay 20ms --url grpc://host:8001",
    )  # fmt: skip
    wait.add_argument("model")
    wait.add_argument("--max-queue-delay", type=duration, required=True, metavar="TIME", help="0s, 500us, 20ms")
    wait.add_argument(
        "--preferred-batch-size", type=sizes, metavar="N,N", help="sizes that are sent at once (default: as they are)"
    )
    wait.add_argument("--no-probe", action="store_true", help="do not ask each version for an answer")
    wait.add_argument("--dependents", action="store_true", help="ensembles that use the model may change with it")
    wait.add_argument("--load-timeout", type=duration, default=600.0, metavar="TIME", help="for one load (default 10m)")
    add_site(wait)

    back = add(
        commands, "restore", _restore, "bring back what the journal knows, after a restart or a change cut off",
        "triton-canary models restore llm --url grpc://host:8001 --repository /models",
    )  # fmt: skip
    back.add_argument("model", nargs="?", help="default: every model that the journal knows")
    back.add_argument("--undo", action="store_true", help="what was before the last change, config.pbtxt included")
    back.add_argument("--no-probe", action="store_true", help="do not ask each version for an answer")
    back.add_argument("--load-timeout", type=duration, default=600.0, metavar="TIME", help="for one load (default 10m)")
    add_site(back)


def _load(args: argparse.Namespace) -> int:
    needs_repository(args)
    if args.cycles is not None:
        return _cycles(args)
    with interruptible(), site_of(args) as site:
        warn_of_load(args, site)
        changed = load(site, args.model, args.exactly or args.version, exactly=bool(args.exactly), rules=rules_of(args))
    _show(changed)
    return 0


def _unload(args: argparse.Namespace) -> int:
    if not args.version and not args.all:
        raise UsageError(
            f"models unload {args.model}: which version? --version N takes that one out and leaves the others; --all "
            "takes out every one, which is what Triton's own unload does, whatever version it is asked for"
        )
    if args.version and args.all:
        raise UsageError("--version and --all: one of them")
    if not args.all:
        needs_repository(args)
    with interruptible(), site_of(args) as site:
        warn_of_load(args, site)
        changed = unload(site, args.model, args.version, everything=args.all, rules=rules_of(args))
    _show(changed)
    return 0


def _retire(args: argparse.Namespace) -> int:
    needs_repository(args)
    with interruptible(), site_of(args) as site:
        warn_of_load(args, site)
        done = retire(
            site, args.model, args.version, window_s=args.window,
            then="archive" if args.archive else "remove" if args.remove else "keep",
            archive=args.archive, staging=args.staging, rules=rules_of(args),
        )  # fmt: skip
    console = stdout()
    for seen in done.watched:
        console.print(f"{seen.url}: no request at version {seen.version} for {seen.window_s:.0f} s", markup=False)
    for line in done.done or ("nothing was left to do",):
        console.print(line, markup=False)
    if done.changed:
        _show(done.changed)
    return 0


def _tune(args: argparse.Namespace) -> int:
    if args.max_queue_delay > MOST_DELAY_S:
        raise UsageError(f"--max-queue-delay {args.max_queue_delay:g}s: at most {MOST_DELAY_S:g}s")
    rules = Rules(probe=not args.no_probe, dependents=args.dependents)
    with interruptible(), site_of(args) as site:
        for control in site.servers:
            if control.caution:
                site.say(f"WARNING: {control.caution}")
        done = tune(
            site, args.model, round(args.max_queue_delay * 1e6), args.preferred_batch_size, rules=rules
        )  # fmt: skip
    console = stdout()
    for url, setting in done.after.items():
        was = f"was {done.before[url]}" if url in done.called else "as before"
        console.print(f"{url}: {args.model}: {setting} ({was})", markup=False)
    if done.called:
        stderr().print("config.pbtxt is as it was: a server that restarts comes back with its setting", markup=False)
    return 0


def _restore(args: argparse.Namespace) -> int:
    with interruptible(), site_of(args) as site:
        found = restore(site, args.model, undo=args.undo, rules=Rules(probe=not args.no_probe))
    console = stdout()
    for restored in found:
        for line in restored.done:
            console.print(f"{restored.model}: {line}", markup=False)
        for url, ready in restored.after.items():
            what = "as" if restored.done else "already as"
            console.print(f"{url}: {restored.model} {_listed(ready)} READY, {what} {restored.why}", markup=False)
    return 0


def _show(changed: Changed) -> None:
    console = stdout()
    for url, ready in changed.after.items():
        was = "as before" if ready == changed.before[url] else f"was {_listed(changed.before[url])}"
        console.print(f"{url}: {changed.model} {_listed(ready)} READY ({was})", markup=False)
        if left := changed.draining.get(url):
            console.print(f"{url}: {_listed(left)} still answers its last requests", markup=False)
    for note in changed.notes:
        stderr().print(note, markup=False)
    if changed.diff:
        print(changed.diff, end="")


def _cycles(args: argparse.Namespace) -> int:
    if args.exactly or args.persist != "no":
        raise UsageError("--cycles is a measurement: with --version, and without --exactly or --persist")
    with interruptible(), site_of(args) as site:
        warn_of_load(args, site)
        if site.repository is not None:
            versions_on_disk(site.repository, args.model)
        found = cycles(site, args.model, args.version, args.cycles, server_pid=args.server_pid, rules=rules_of(args))
    _show_cycles(found)
    return 0


def _show_cycles(found: Cycles) -> None:
    console = stdout()
    console.print(f"{found.what}, MiB", markup=False)
    table = Table("cycle", "before", "loaded", "unloaded", "one load", box=None, pad_edge=False)
    for number, cycle in enumerate(found.cycles, 1):
        amounts = (cycle.before, cycle.loaded, cycle.unloaded)
        cost = f"{_mib(cycle.loaded - cycle.before):+.1f}"
        table.add_row(str(number), *(f"{_mib(amount):.1f}" for amount in amounts), cost)
    console.print(table)
    console.print(f"one load takes {_mib(found.cost):.1f} MiB (median)", markup=False)
    console.print(found.trend.sentence, markup=False)


def _mib(amount: float) -> float:
    return amount / 2**20


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers)) or "none"
