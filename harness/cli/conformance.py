"""conformance: does a Triton do what triton-canary believes of it?"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from harness.cli.command import Commands, add
from harness.cli.console import stderr, stdout
from harness.cli.models_options import access_of, add_access
from harness.embedded import EmbeddedServer
from harness.errors import UsageError
from harness.run.signals import interruptible
from harness.triton.conformance import (
    GROUPS,
    REST_S,
    Addresses,
    Api,
    Result,
    Rules,
    Site,
    check_site,
    left_over,
    markdown,
    measure,
    server_of,
)

_MARKS = {"same": "✓", "different": "✗", "not run": "–"}
_IN_USE = (
    "each row loads and unloads a little model: for seconds the server's own readiness answers 400 and HTTP requests "
    f"wait, and {REST_S:.0f} s of rest follow; a replica without traffic is the better place"
)


def add_commands(commands: Commands) -> None:
    command = add(
        commands, "conformance", _conformance, "measure again what triton-canary believes of Triton (docs/triton.md)",
        "triton-canary conformance --url http://host:8000 --repository /models --metrics-url http://host:8002/metrics",
    )  # fmt: skip
    command.add_argument(
        "--url", metavar="URL", help="http://host:8000 or https://; default: an embedded one, all rows"
    )
    command.add_argument("--repository", type=Path, metavar="DIR", help="the server's, as this machine sees it")
    command.add_argument("--metrics-url", metavar="URL", help="http://host:8002/metrics")
    use = command.add_mutually_exclusive_group()
    use.add_argument(
        "--in-use", action="store_true", help="others use the server: leave out what disturbs them (the default)"
    )
    use.add_argument("--mine", action="store_true", help="nobody uses the server: its readiness and loads may suffer")
    command.add_argument("--row", action="append", default=[], metavar="NAME", help="only this row; repeatable")
    command.add_argument("--list", action="store_true", help="print the rows as Markdown; nothing is measured")
    command.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    add_access(command)


def _conformance(args: argparse.Namespace) -> int:
    if args.list:
        print(markdown(GROUPS), end="")
        return 0
    rules = Rules(in_use=bool(args.url) and not args.mine, only=args.row)
    console, results = stderr(), []
    with interruptible(), ExitStack() as stack:
        site = stack.enter_context(_given(args) if args.url else _embedded(console))
        server, before = server_of(site), site.api.server_ready()
        for name in left_over(site):
            console.print(f"left by a run that was killed, unload and remove it: {name}", markup=False)
        if rules.in_use:
            console.print(_IN_USE, markup=False)
        check_site(site, rules)
        for result in measure(GROUPS, site, rules, lambda row: console.print(f"measuring {row.name}", markup=False)):
            results.append(result)
            if not args.json:
                _show(result)
        after = site.api.server_ready()
    counts = Counter(result.outcome for result in results)
    if args.json:
        readiness = {"before": before, "after": after}
        print(json.dumps(_document(site, server, readiness, rules, results), indent=2, ensure_ascii=False))
    else:
        stdout().print(
            f"\nTriton {server['version']}: {counts['same']} rows as documented, {counts['different']} differ, "
            f"{counts['not run']} not run; the server's own readiness was {before} before and is {after} now",
            markup=False,
        )
    return 1 if counts["different"] else 0


def _show(result: Result) -> None:
    row, lines = result.row, [f"{_MARKS[result.outcome]} {result.row.name}: {result.row.claim}"]
    if result.outcome == "not run":
        lines.append(f"not run: {result.reason}")
    if result.outcome == "different":
        lines.append(f"expected  {_facts(row.expected)}")
        lines.append(f"measured  {result.reason or _facts(result.measured)}")
        lines.append(f"what rests on it: {row.safeguard}")
    stdout().print("\n    ".join(lines), markup=False)


def _facts(facts: object) -> str:
    return json.dumps(facts, ensure_ascii=False)


def _document(
    site: Site, server: dict[str, str], readiness: dict[str, int], rules: Rules, results: Sequence[Result]
) -> dict[str, object]:
    counts: Counter[str] = Counter(result.outcome for result in results)
    return {
        "url": site.api.url,
        "server": server,
        "server_readiness": readiness,
        "in_use": rules.in_use,
        "summary": {outcome.replace(" ", "_"): counts[outcome] for outcome in _MARKS},
        "rows": [
            {
                "name": result.row.name,
                "group": result.group,
                "claim": result.row.claim,
                "safeguard": result.row.safeguard,
                "outcome": result.outcome,
                "expected": result.row.expected,
                "measured": result.measured,
                "reason": result.reason,
            }
            for result in results
        ],
    }


@contextmanager
def _given(args: argparse.Namespace) -> Iterator[Site]:
    if not args.url.startswith(("http://", "https://")):
        raise UsageError(f"--url {args.url}: the rows are calls over HTTP: http://host:8000 or https://host")
    if args.repository is None or not args.repository.is_dir():
        raise UsageError("--url needs --repository: a folder, the server's model repository as this machine sees it")
    site = Site(Api(args.url, args.metrics_url, access_of(args)), args.repository)
    try:
        yield site
    finally:
        site.api.close()


@contextmanager
def _embedded(console: Console) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="triton-canary-") as name:
        repository = Path(name) / "models"
        repository.mkdir()

        @contextmanager
        def launch(arguments: Sequence[str]) -> Iterator[Addresses]:
            with EmbeddedServer(repository, Path(name) / "triton.log", arguments=arguments) as server:
                server.start()
                yield Addresses(server.http_url, server.grpc_url.removeprefix("grpc://"), server.metrics_url)

        console.print("starting Triton")
        with launch(()) as addresses:
            site = Site(Api(addresses.http, addresses.metrics), repository, launch)
            try:
                yield site
            finally:
                site.api.close()
