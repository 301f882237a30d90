"""What a failed request died of, told from what was said of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

from harness.failures import SIGNS, kind_of, own_words
from tests.messages import FALSE_FRIENDS, PRODUCED, QUOTED, Said

REAL = (*PRODUCED, *QUOTED)


@pytest.mark.parametrize("said", REAL, ids=lambda said: said.origin)
def test_real_messages(said: Said) -> None:
    assert kind_of(said.message, said.code) == said.kind


@pytest.mark.parametrize("said", FALSE_FRIENDS, ids=lambda said: said.message[:40])
def test_false_friends(said: Said) -> None:
    assert kind_of(said.message, said.code) == said.kind


@pytest.mark.parametrize("said", REAL, ids=lambda said: said.origin)
def test_the_same_message_in_a_wrapping_is_the_same(said: Said) -> None:
    assert kind_of(json.dumps({"error": said.message}), said.code) == said.kind
    assert kind_of(f"RuntimeError({said.message!r})", said.code) == said.kind
    assert kind_of(f"Failed to process the request(s) for model 'm_0_0', message: {said.message}") == said.kind


@pytest.mark.parametrize("said", REAL, ids=lambda said: said.origin)
def test_a_request_that_is_quoted_tells_nothing_of_the_server(said: Said) -> None:
    told = "time-out" if said.code == "DEADLINE_EXCEEDED" else "other"
    quoted = re.sub("['\"`]", "", said.message)
    for message in (f"cannot parse '{quoted}'", f'bad prompt "{quoted}" in the request', f"no such thing: “{quoted}”"):
        assert kind_of(message, "INTERNAL") == "other", message
    assert kind_of(f"cannot parse '{quoted}'", said.code) in (told, "other")


def test_numpy_and_python_say_so_here_and_now() -> None:
    """Beyond a limit that the kernel keeps, in a process of their own."""
    program = """
import json, resource, numpy as np
limit = 256 << 20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
said = []
for take in (lambda: np.ones(1 << 30, np.uint8), lambda: bytearray(1 << 30), lambda: np.zeros((1 << 15, 1 << 15))):
    try:
        take()
    except MemoryError as error:
        said += [f"{type(error).__name__}: {error}", repr(error)]
print(json.dumps(said))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    said = json.loads(done.stdout)
    assert len(said) == 6
    assert {kind_of(message, "INTERNAL") for message in said} == {"out of memory"}


@pytest.mark.parametrize("code", ["ECONNRESET", "EPIPE", "ECONNABORTED"])
def test_a_connection_that_broke_may_be_a_server_that_died(code: str) -> None:
    assert kind_of("", code) == "server died"
    assert kind_of("", "ECONNREFUSED") == "other", "whether anybody was ever there, the message does not know"


def test_every_row_of_the_table_is_shown_by_a_real_message() -> None:
    """A row that no message needs would be a guess; these few are names that a header file defines."""
    defined = (
        "CUDA driver API",
        "cuDNN 9",
        "C++ standard",
        "python_backend infer_response",
        "core ensemble",
        "vLLM v1/e",
    )
    for sign in SIGNS:
        shown = any(said.kind == sign.kind and re.search(sign.words, own_words(said.message)) for said in REAL)
        known = any(sign.source.startswith(name) for name in (*defined, "TensorFlow", "XLA", "PyTorch c10/cuda/CUDAE"))
        assert shown or known or sign.source.startswith("Python http.client"), sign


def test_what_is_quoted_is_left_out_and_apostrophes_are_no_quotation_marks() -> None:
    assert own_words("model 'm' said \"no\" to `x` and “y”") == "model '' said \"\" to `` and "
    assert own_words("can't load the model's file") == "can't load the model's file"
    assert own_words("'all of it'") == "all of it"


def test_a_very_long_message_is_told_quickly() -> None:
    at_its_end = "a" * 5_000_000 + " CUDA out of memory"
    for message in ("'" * 2_000_000, "' x" * 700_000, at_its_end, "CUDA runtime error in " * 90_000):
        began = time.process_time()
        kind_of(message)
        assert time.process_time() - began < 5
    assert kind_of(at_its_end) == "out of memory"


@pytest.mark.parametrize("marks", [" 'a", ' "a', " 'a \"b `c", "“«"])
def test_marks_that_nothing_closes_take_no_longer_than_words(marks: str) -> None:
    """Whoever waits for it is a load worker, whose other requests wait with it."""

    def spent(message: str) -> float:
        begins = []
        for _ in range(3):
            began = time.process_time()
            kind_of(message)
            begins.append(time.process_time() - began)
        return min(begins)

    words = ' File "/opt/model.py", line 7, in execute\n'
    assert spent(marks * (16_000 // len(marks))) < 30 * spent(words * (16_000 // len(words)))
