"""doctor --metrics: what pages tell, and what is missing."""

from __future__ import annotations

import pytest

from harness.cli import main
from harness.embedded import runs_on, torch_told
from tests.telemetry.serving import recorded, serving


def test_pages_are_told_engine_by_engine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    pages = {"triton": recorded("triton-gpus") + recorded("vllm-triton"), "node": recorded("dcgm-mig")}
    with serving(pages) as url:
        assert main(["doctor", "--metrics", f"{url}/triton", "--metrics", f"{url}/node"]) == 0
    text = capsys.readouterr().out
    about_triton, about_node = text.split(f"{url}/triton")[1].split(f"{url}/node")
    first = "GPU-5fd4f087-86f3-7a43-b711-4771313afc50"
    assert "2 GPUs: GPU-0b1c3c7d-92a4-4b1e-8d8e-6e9a7f1d2c33, " + first in about_triton
    assert "of llm/1, vllm_model/1" in about_triton
    assert "2 metrics; of vllm_model/1" in about_triton
    assert "nothing of the KV cache: Triton's backend for vLLM does not show it" in about_triton
    assert "DCGM exporter, TensorRT-LLM" in about_triton.split("not there")[1]
    assert f"3 GPUs: {first}, {first}/mig1, {first}/mig2" in about_node
    assert "nothing of energy" in about_node
    assert "nothing of memory" not in about_node


def test_it_says_where_the_models_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["doctor"]) == 0
    rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["PyTorch"].strip() == torch_told()
    assert rows["its models run"].strip() == runs_on()


def test_what_to_install_is_told_as_it_has_to_be_typed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """rich takes words in square brackets for its own."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("harness.cli.machine.available", lambda: "pip install 'triton-canary[embedded]'")
    assert main(["doctor"]) == 0
    assert "pip install 'triton-canary[embedded]'" in capsys.readouterr().out


def test_a_page_that_does_not_answer_or_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with serving({"other": "go_goroutines 7\n"}) as url:
        assert main(["doctor", "--metrics", f"{url}/other", "--metrics", f"{url}/nosuch"]) == 4
    text = " ".join(capsys.readouterr().out.split())
    assert "not read holds no metrics of Triton" in text
    assert "not read no metrics: HTTP 404" in text
