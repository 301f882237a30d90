"""gate: two versions that serve already, or the two builds of a checkout: the step of a CI job."""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path

from harness import scenario
from harness.cli import ci
from harness.cli.command import Commands, add
from harness.cli.console import stderr
from harness.cli.running import common, executed
from harness.errors import UsageError
from harness.judge import verdict_json
from harness.report import changed
from harness.report.markdown import escape
from harness.run.checkout import Checkout, look
from harness.run.checkout_target import Comparison
from harness.scenario import Asked
from harness.triton import access
from harness.types import Verdict

OF_CHECKOUT = ("base", "base_folder", "model", "url", "repository", "always", "unfit")


def add_commands(commands: Commands) -> None:
    gate = add(
        commands, "gate", _gate, "compare two versions that serve already, or a checkout with its base branch",
        "triton-canary gate --baseline grpc://host:8001/llm:1 --candidate grpc://host:8001/llm:2 "
        "--prompts prompts.jsonl --margin ttft.p50=10% --max memory.peak=90%\n"
        "  triton-canary gate --checkout models/llm --prompts prompts.jsonl\n"
        "  triton-canary gate --checkout models/llm --url grpc://host:8001 --repository /models",
    )  # fmt: skip
    gate.description = (
        f"{gate.description} Exit code 0: promote, or nothing to compare; 1: rollback; 2: wrong usage; "
        "3: inconclusive; 4: a server could not be reached, or failed."
    )
    two = gate.add_argument_group("two versions that serve already; nothing is changed on their servers")
    two.add_argument("--baseline", metavar="URL", help="scheme://host:port/model[:version]")
    two.add_argument("--candidate", metavar="URL", help="the same for the version to be judged")
    of = gate.add_argument_group("a checkout: its model against the base branch's, on an embedded Triton or yours")
    of.add_argument("--checkout", type=Path, metavar="FOLDER", help="a model's folder in a git working tree")
    of.add_argument("--model", metavar="NAME", help="--checkout is a repository of models, and this one is compared")
    of.add_argument(
        "--base", metavar="REF",
        help="what to compare with: the commit at which HEAD left it; default: the branch that the pull or merge "
        "request is for, by CI's own variables, else origin/HEAD, origin/main, main",
    )  # fmt: skip
    of.add_argument("--base-folder", metavar="FOLDER", help="the model's folder there, if it was called otherwise")
    of.add_argument("--url", help="a Triton in explicit mode; without it an embedded one is started")
    of.add_argument(
        "--repository", type=Path, metavar="DIR",
        help="its model repository: both builds are put there under names of their own, and taken away again",
    )  # fmt: skip
    of.add_argument("--always", action="store_true", help="compare also where no file of the model changed")
    of.add_argument(
        "--even-if-it-does-not-fit", dest="unfit", action="store_true",
        help="load the builds though memory does not seem to suffice for both",
    )  # fmt: skip
    gate.add_argument("--prompts", type=Path, help='JSON lines of {"prompt": "..."}; for models with text_input')
    gate.add_argument(
        "--margin", action="append", default=[], metavar="METRIC=M",
        help="a rule, such as ttft.p99=10%% or errors=1pp; repeatable; default: by the kind of model",
    )  # fmt: skip
    gate.add_argument(
        "--max", action="append", default=[], metavar="METRIC=M",
        help="a rule with a limit, such as memory.peak=90%% (of what the GPU has), memory.peak=40GiB or "
        "ttft.p99=500ms; repeatable",
    )  # fmt: skip
    gate.add_argument(
        "--metrics-url", action="append", default=[], metavar="URL",
        help="a metrics page of the servers (Triton's, a DCGM exporter's); without it the memory of another machine is "
        "not known; repeatable",
    )  # fmt: skip
    gate.add_argument("--for", dest="duration", default="60s", metavar="TIME", help="how long (default 60s)")
    gate.add_argument("--in-flight", type=int, default=1, metavar="N", help="pairs in flight (default 1)")
    gate.add_argument("--max-tokens", type=int, default=16, metavar="N", help="output tokens a request (default 16)")
    common(gate)


def _gate(args: argparse.Namespace) -> int:
    if args.checkout is not None:
        return _checkout(args)
    for name in OF_CHECKOUT:
        if getattr(args, name):
            raise UsageError(f"--{name.replace('_', '-')} is for --checkout")
    if args.baseline is None or args.candidate is None:
        raise UsageError("give --baseline and --candidate, which serve already, or --checkout FOLDER")
    return executed(scenario.from_gate(args.baseline, args.candidate, **_asked(args)), args)


def _checkout(args: argparse.Namespace) -> int:
    if args.baseline or args.candidate:
        raise UsageError("--checkout has its own baseline: the same folder in the base branch (--base)")
    if (args.url is None) != (args.repository is None):
        raise UsageError("--url and --repository go together: a Triton, and the folder that it loads models from")
    if args.repository is not None and not args.repository.is_dir():
        raise UsageError(f"{args.repository}: no such folder: --repository is the model repository of {args.url}")
    found = look(args.checkout, model=args.model, base=args.base, base_folder=args.base_folder, environment=os.environ)
    if found.base_build is None:
        why = f"new model: {found.base_words} has no {found.about['folder']}: nothing to compare with"
        return _nothing(args, found, why)
    token = secrets.token_hex(2)
    served = {arm: (found.names(arm, token)[build.model], build.version) for arm, build in found.builds.items()}
    wanted = scenario.from_checkout(
        found.head_build.model, served["baseline"], served["candidate"], args.url,
        args.repository.resolve() if args.repository else None,
        access(environment=os.environ).headers if args.url else {}, **_asked(args),
    )  # fmt: skip
    if found.is_unchanged and not args.always:  # a mistake in the options was told all the same
        return _nothing(args, found, _unchanged(found))
    console = stderr()
    for number, line in enumerate(changed.lines({"git": found.about})):
        # GitHub's runner takes `##[` for a command wherever it stands, and commits are named by anybody.
        line = line.replace("##[", "## [")
        console.print(f"  {line}" if number else line, markup=False, highlight=False, soft_wrap=True)
    return executed(wanted, args, comparison=Comparison(found, token, args.unfit))


def _unchanged(found: Checkout) -> str:
    line = f"nothing changed in {found.about['folder'] or 'the model'} since {found.base_words}"
    unseen = changed.not_in_git(found.about)
    unseen = f"; not in git, so that nobody knows whether it changed: {unseen}" if unseen else ""
    if found.base == found.head:
        before = "(--base: GitHub's github.event.before, GitLab's $CI_COMMIT_BEFORE_SHA)"
        return f"{line}, which is HEAD itself: after a push, compare with what was there before it {before}{unseen}"
    return f"{line}: nothing to compare (--always compares all the same){unseen}"


def _nothing(args: argparse.Namespace, found: Checkout, reason: str) -> int:
    """There is no run, so nothing got worse."""
    verdict, name = Verdict("promote", reason, ()), f"gate-{found.head_build.model}"
    meta = {"scenario": {"name": name}, "finished": True, "git": dict(found.about)}
    stderr().print(reason, markup=False, highlight=False, soft_wrap=True)
    ci.publish(args, verdict, meta, lambda: f"## ✓ promote: {escape(name)}\n\n{escape(reason)}\n", None)
    if args.json:
        print(verdict_json(verdict, meta), end="")
    return verdict.exit_code


def _asked(args: argparse.Namespace) -> Asked:
    return Asked(
        prompts=args.prompts, margins=args.margin, limits=args.max, metrics=args.metrics_url, duration=args.duration,
        in_flight=args.in_flight, max_tokens=args.max_tokens, seed=args.seed,
    )  # fmt: skip
