"""Calls side by side: the first that fails ends them all, and none that waits keeps anybody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from harness.store.s3 import S3Store
from harness.store.together import alone, together
from tests.store.conftest import SECRET
from tests.store.faults import Asked, Forward, Proxy, Reply
from tests.store.folders import CONFIG, put, put_own, put_version


def test_answers_come_in_the_order_of_the_calls() -> None:
    later = threading.Event()

    def first() -> int:
        assert later.wait(60)
        return 1

    def second() -> int:
        later.set()
        return 2

    assert together([first, second, lambda: 3], 2) == [1, 2, 3]
    assert together([], 4) == []
    assert alone(lambda: "one") == "one"


def test_the_first_failure_is_raised_and_nothing_more_is_begun() -> None:
    begun: list[int] = []
    stop = threading.Event()

    def call(number: int) -> None:
        begun.append(number)
        raise LookupError(f"call {number}")

    with pytest.raises(LookupError, match="call 0"):
        together([partial(call, number) for number in range(9)], 1, stop)
    assert begun == [0]
    assert stop.is_set()


def test_one_that_waits_does_not_hold_up_the_failure_of_another() -> None:
    waits, go_on = threading.Event(), threading.Event()

    def waiting() -> None:
        waits.set()
        go_on.wait(600)

    def failing() -> None:
        assert waits.wait(60)
        raise LookupError("at once")

    try:
        with pytest.raises(LookupError, match="at once"):
            together([waiting, failing], 2)
        assert not go_on.is_set()
    finally:
        go_on.set()


class Silence:
    """A fault: requests that `holds` are not answered before `end` is set."""

    def __init__(self, method: str, part: str) -> None:
        self.method, self.part = method, part
        self.reached, self.end = threading.Event(), threading.Event()

    def __call__(self, asked: Asked, forward: Forward) -> Reply:
        if asked.method == self.method and self.part in asked.path:
            self.reached.set()
            self.end.wait(600)
        return forward()


MAIN = "import sys; from harness.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize(
    ("command", "method", "part"),
    [
        ("sync", "GET", "list-type"),
        ("sync", "GET", "model.plan"),
        ("publish", "PUT", "small"),
        ("publish", "PUT", "partNumber=2"),
    ],
)
def test_an_interrupt_leaves_a_server_that_does_not_answer(
    moto_store: S3Store, proxy: Proxy, tmp_path: Path, command: str, method: str, part: str
) -> None:
    """S3's own client would take the exception of a signal for a failed request, and wait four times a minute more."""
    built, repository = tmp_path / "built", tmp_path / "vol/models"
    put_version(built, "llm", 1, {"model.plan": b"1"})
    put_own(built, "llm", {"config.pbtxt": CONFIG})
    for path in (path for path in built.rglob("*") if path.is_file()):
        moto_store.write(path.relative_to(built).as_posix(), path)
    put(built, {"llm/2/small": b"2", "llm/2/large": bytes(40 << 20)} if "=" in part else {"llm/2/small": b"2"})
    repository.mkdir(parents=True)
    before = set(moto_store.list().files)
    silence = proxy.fault = Silence(method, part)
    arguments = {
        "sync": [moto_store.url, "--repository", str(repository)],
        "publish": [str(built / "llm/2"), moto_store.url, "--model", "llm", "--version", "2"],
    }[command]
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, "models", command, *arguments, "--endpoint", proxy.url],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "AWS_SECRET_ACCESS_KEY": SECRET},
    ) as process:
        try:
            assert silence.reached.wait(120)
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=30)[1]
        finally:
            process.kill()
            silence.end.set()
            proxy.fault = None
    assert process.returncode == 3, said
    assert "interrupted by SIGINT" in said
    assert list(repository.iterdir()) == []
    assert not [key for key in moto_store.list().files.keys() - before if "manifest" in key]
