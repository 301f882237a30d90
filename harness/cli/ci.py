"""What a CI system and what monitors are told of a verdict: options of several commands, one function for all.

Nothing here changes an exit code: a build is red because something got worse, not because a summary could not be
written or a gateway was away. All lines go to stderr, so that `--json` leaves one document on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.errors import CanaryError
from harness.publish import Endpoint, address, otlp_endpoint
from harness.recording import is_operation, read_meta
from harness.types import Verdict

LINKS = Path("gl-annotations.json")
"""GitLab's `artifacts:reports:annotations`: links beside the job's log."""


def options(command: argparse.ArgumentParser) -> None:
    """Adds --ci, --push and --otlp."""
    group = command.add_argument_group("CI and monitoring; none of it changes the exit code")
    group.add_argument(
        "--ci", choices=["github", "gitlab", "auto"],
        help="github: annotations, the job's summary and the outputs verdict, folder and report; gitlab: a "
        f"link to the report in {LINKS}; auto: whichever it is that runs this",
    )  # fmt: skip
    group.add_argument("--push", type=_address, metavar="URL", help="send the figures to this Prometheus Pushgateway")
    group.add_argument(
        "--otlp", nargs="?", const="", type=_otlp, metavar="URL",
        help="send the figures by OTLP over HTTP to this address (/v1/metrics is added), or to "
        "$OTEL_EXPORTER_OTLP_ENDPOINT with $OTEL_EXPORTER_OTLP_HEADERS",
    )  # fmt: skip


def publish(
    args: argparse.Namespace, verdict: Verdict, meta: Mapping[str, Any], summary: Callable[[], str],
    folder: Path | None,
) -> None:  # fmt: skip
    """Tells a verdict to those whom the options name. What fails is one line on stderr.

    `meta`: run.json, {} if there is none. `summary`: the Markdown of it. `folder`: of the run, where there is one.
    """
    report = None if folder is None else folder / "report.html"
    report = report if report is not None and report.is_file() else None
    system = _system(args.ci, os.environ)
    if system == "github":
        _github(verdict, meta, summary, folder, report)
    elif system == "gitlab":
        _gitlab(_headline(verdict, meta, folder), report)
    if args.push or args.otlp:
        _send(args, verdict, meta)


def publish_run(args: argparse.Namespace, verdict: Verdict, folder: Path) -> None:
    """`publish` of a run whose report has been rendered."""
    if args.ci or args.push or args.otlp:
        publish(args, verdict, read_meta(folder), lambda: (folder / "report.md").read_text(encoding="utf-8"), folder)


def _address(text: str) -> str:
    try:
        return address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _otlp(text: str) -> Endpoint:
    """Of an address, or of none: then the environment says it."""
    try:
        return otlp_endpoint(text or None, os.environ)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _system(wanted: str | None, environment: Mapping[str, str]) -> str | None:
    if wanted != "auto":
        return wanted
    known = {"GITHUB_ACTIONS": "github", "GITLAB_CI": "gitlab"}
    return next((system for name, system in known.items() if environment.get(name) == "true"), None)


def _headline(verdict: Verdict, meta: Mapping[str, Any], folder: Path | None) -> tuple[str, str]:
    """What it is called, and the verdict in the word that people are told."""
    from harness.report.about import title
    from harness.report.operation import operation_word

    operation = folder is not None and is_operation(folder)
    return title(meta), operation_word(verdict) if operation else verdict.verdict


def _github(
    verdict: Verdict, meta: Mapping[str, Any], summary: Callable[[], str], folder: Path | None, report: Path | None
) -> None:
    from harness.report.annotations import fit, workflow_commands

    for line in workflow_commands(*_headline(verdict, meta, folder), verdict):
        print(line, file=sys.stderr)
    outputs = {"verdict": verdict.verdict, "folder": str(folder or ""), "report": str(report or "")}
    lines = "".join(f"{key}={' '.join(value.splitlines())}\n" for key, value in outputs.items())
    _append("GITHUB_STEP_SUMMARY", lambda taken: fit(summary(), taken))
    _append("GITHUB_OUTPUT", lambda _: lines)


def _append(variable: str, text: Callable[[int], str]) -> None:
    """To the file that a variable names; `text` is given how many bytes that has."""
    name = os.environ.get(variable)
    if not name:
        _warn(f"--ci github: ${variable} is not set, and nothing was written there")
        return
    path = Path(name)
    try:
        taken = path.stat().st_size if path.exists() else 0
        with path.open("a", encoding="utf-8") as file:
            file.write(text(taken))
    except (OSError, CanaryError) as error:
        _warn(f"--ci github: ${variable}: {error}")


def _gitlab(headline: tuple[str, str], report: Path | None) -> None:
    """Adds a link to those that are there: of a job that judges twice both are shown."""
    job = os.environ.get("CI_JOB_URL")
    root = Path(os.environ.get("CI_PROJECT_DIR") or ".").resolve()
    if report is None or not job or not report.resolve().is_relative_to(root):
        _warn("--ci gitlab: no link to a report: it takes $CI_JOB_URL, and a report below $CI_PROJECT_DIR")
        return
    name, word = headline
    url = f"{job}/artifacts/file/{quote(report.resolve().relative_to(root).as_posix())}"
    try:
        path = root / LINKS  # artifacts are named from there
        links = json.loads(path.read_text(encoding="utf-8"))["triton-canary"] if path.exists() else []
        links = [link for link in links if link["external_link"]["url"] != url]
        links.append({"external_link": {"label": f"{name}: {word}", "url": url}})
        path.write_text(json.dumps({"triton-canary": links}, indent=2) + "\n", encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError) as error:
        _warn(f"--ci gitlab: {LINKS}: {error}")


def _send(args: argparse.Namespace, verdict: Verdict, meta: Mapping[str, Any]) -> None:
    from harness.publish import otlp, pushgateway
    from harness.report.about import title
    from harness.report.openmetrics import gauges, openmetrics

    found = gauges(meta, verdict)
    if args.push:
        _tried("--push", lambda: pushgateway.push(args.push, openmetrics(found), title(meta)))
    if args.otlp:
        _tried("--otlp", lambda: otlp.send(args.otlp, found, _resource(meta, os.environ)))


def _tried(option: str, send: Callable[[], None]) -> None:
    try:
        send()
    except CanaryError as error:
        _warn(f"{option}: {error}; the verdict and the exit code stay as they are")


def _resource(meta: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """What the figures are of: the commit by OpenTelemetry's own name for it."""
    git = meta.get("git")
    head = git.get("head") if isinstance(git, Mapping) else None
    commit = head or environment.get("GITHUB_SHA") or environment.get("CI_COMMIT_SHA")
    known = {"triton_canary.started": meta.get("started_utc"), "vcs.ref.head.revision": commit}
    return {key: str(value) for key, value in known.items() if value}


def _warn(line: str) -> None:
    print(f"triton-canary: {line}", file=sys.stderr)
