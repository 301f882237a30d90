"""What the `models` commands have in common: whom they address, how they may, and what a change may do."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

from harness.cli.command import amount, duration
from harness.cli.console import stderr
from harness.errors import UsageError
from harness.run.machine import look
from harness.run.models import Rules, Site, open_site
from harness.triton import Access, access, probe_path


def add_site(command: argparse.ArgumentParser, *, urls_needed: bool = True) -> None:
    where = command.add_argument_group("servers")
    where.add_argument(
        "--url", action="append", default=[], required=urls_needed, metavar="URL",
        help="grpc://host:8001, http://host:8000, grpcs:// or https://; repeatable; a name with several addresses "
        "stands for a server each",
    )  # fmt: skip
    where.add_argument("--repository", type=Path, metavar="DIR", help="their model repository, as this machine sees it")
    where.add_argument(
        "--max-unavailable", default="1", metavar="N",
        help="servers that are changed at the same time: a number, or a share such as 25%% (default 1)",
    )  # fmt: skip
    where.add_argument(
        "--state", type=Path, metavar="DIR",
        help="where the journal lies (default: a folder named after the URLs in $XDG_STATE_HOME/triton-canary)",
    )  # fmt: skip
    add_access(command)


def add_access(command: argparse.ArgumentParser) -> None:
    how = command.add_argument_group(
        "access", "also from the environment: TRITON_CANARY_HEADERS (one a line), TRITON_CANARY_TOKEN; never printed"
    )
    how.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", help="repeatable")
    how.add_argument("--header-file", action="append", default=[], type=Path, metavar="FILE", help="one header a line")
    how.add_argument("--token-file", type=Path, metavar="FILE", help="a bearer token")
    how.add_argument("--ca", type=Path, metavar="PEM", help="whom to trust (default: the system's store)")
    how.add_argument("--cert", type=Path, metavar="PEM", help="our own certificate, for mTLS")
    how.add_argument("--key", type=Path, metavar="PEM", help="its key")
    how.add_argument("--server-name", metavar="NAME", help="the name in the server's certificate")


def access_of(args: argparse.Namespace) -> Access:
    """Raises UsageError, naming the option that is wrong; never its value."""
    return access(
        args.header, args.header_file, args.token_file, args.ca, args.cert, args.key, args.server_name,
        environment=os.environ,
    )  # fmt: skip


def add_rules(command: argparse.ArgumentParser, *, window_s: float = 2.0) -> None:
    rules = command.add_argument_group("checks")
    rules.add_argument("--no-disk", action="store_true", help="the version directories cannot be looked at from here")
    rules.add_argument("--no-probe", action="store_true", help="do not ask each version for an answer")
    rules.add_argument("--dependents", action="store_true", help="ensembles that use the model may change with it")
    rules.add_argument(
        "--versioned-clients", action="store_true",
        help="every client names its version: a higher one may become READY while requests arrive",
    )  # fmt: skip
    add_needs(rules)
    rules.add_argument(
        "--even-if-it-does-not-fit", dest="unfit", action="store_true",
        help="load a version although it does not seem to fit into memory beside what serves (see models fit)",
    )  # fmt: skip
    rules.add_argument(
        "--window",
        type=duration,
        default=window_s,
        metavar="TIME",
        help=f"how long requests are watched for (default {window_s:g}s)",
    )
    rules.add_argument(
        "--load-timeout", type=duration, default=600.0, metavar="TIME", help="for one load (default 10m)"
    )
    rules.add_argument("--probe-path", metavar="PATH", help="warn if a Kubernetes probe on this path would be harmed")
    add_persist(command)


def add_needs(command: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    command.add_argument(
        "--needs-memory", type=amount, metavar="SIZE",
        help="what a version takes once it is loaded, of each GPU that it uses or of the host, such as 40GiB "
        "(default: what earlier loads took here, else an estimate)",
    )  # fmt: skip


def add_persist(command: argparse.ArgumentParser) -> None:
    keep = command.add_mutually_exclusive_group()
    keep.add_argument(
        "--persist", dest="persist", action="store_const", const="write", default="no",
        help="edit version_policy in config.pbtxt, so that a restart keeps it (a read-only one: the diff is printed)",
    )  # fmt: skip
    keep.add_argument(
        "--persist-diff", dest="persist", action="store_const", const="show",
        help="print the edit of config.pbtxt instead, for a repository that is managed elsewhere",
    )  # fmt: skip


def site_of(args: argparse.Namespace) -> Site:
    """Raises UsageError; sends nothing."""
    console = stderr()
    return open_site(
        args.url, access_of(args), args.repository, max_unavailable=args.max_unavailable, state=args.state,
        say=lambda line: console.print(line, markup=False), load_timeout_s=getattr(args, "load_timeout", 600.0),
        look=partial(look, server_pid=getattr(args, "server_pid", None)),
    )  # fmt: skip


def rules_of(args: argparse.Namespace) -> Rules:
    return Rules(
        persist=args.persist, probe=not args.no_probe, versioned_clients=args.versioned_clients,
        dependents=args.dependents, window_s=args.window, needs_bytes=args.needs_memory, unfit=args.unfit,
    )  # fmt: skip


def needs_repository(args: argparse.Namespace) -> None:
    """Raises UsageError where the version directories are neither seen nor said to be out of sight."""
    if args.repository is None and not args.no_disk:
        raise UsageError(
            f"models {args.command} looks for the version directories first: --repository DIR, or --no-disk where "
            "they cannot be seen from here"
        )
    if args.repository is not None and args.no_disk:
        raise UsageError("--repository and --no-disk: one of them")


def warn_of_load(args: argparse.Namespace, site: Site) -> None:
    """What a load through these addresses does to others, said beforehand."""
    for control in site.servers:
        if control.caution:
            site.say(f"WARNING: {control.caution}")
        if args.probe_path:
            found = probe_path(control, args.probe_path)
            if found.verdict != "safe":
                site.say(f"WARNING: --probe-path on {control.url}: {found}")


def version(text: str) -> int:
    """For argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a model version is a whole number from 1, not {text}")
    return int(text)


def versions(text: str) -> list[int]:
    """ "2,3", for argparse."""
    return [version(part.strip()) for part in text.split(",")]


def sizes(text: str) -> list[int]:
    """ "8,16", for argparse."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part.isdecimal() or int(part) < 1:
            raise argparse.ArgumentTypeError(f"a batch size is a whole number from 1, not {part}")
    return [int(part) for part in parts]
