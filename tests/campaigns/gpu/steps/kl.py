"""KL per token of the FP8 builds against FP16, SmolLM2, teacher-forced: the same code on a GPU and on a CPU.

FP16 answers questions greedily; then every build is given those tokens and says how likely it finds each. KL(P || Q)
of the whole vocabulary in float64, P of FP16, the mean of each answer's tokens, then of the answers; and as the judge
has it, of the ten tokens that are likeliest by P and one bucket for the rest. FP16 scored twice is the floor. e4m3 is
coarse: sums in another order round some activation to its neighbour, and single answers move, so devices are compared
answer by answer, with the error of the mean.

    python -m tests.campaigns.gpu.steps.kl --on-cpu FOLDER     a CPU's values, for `keep` (no GPU is asked for)
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.campaigns.gpu.steps.place import ROOT, Found, Place, machine, main, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from harness.embedded.llama.transformer import Transformer

QUESTIONS = ROOT / "scenarios" / "prompts" / "questions.jsonl"
KEPT = ROOT / "reports" / "examples" / "gpu.json"
COUNT, TOKENS, TOP = 64, 8, 10
"""Questions, tokens of each answer (the scenario's own number), and the judge's likeliest tokens."""
WIDENED = 8
OF_CPU = 8
"""Of the texts that a GPU's FP16 wrote: so many are scored on that machine's CPU, too, which is slow at it."""
Text = tuple[list[int], list[int]]


def measure(place: Place) -> Found:
    found: Found = {"questions": COUNT, "tokens": TOKENS, "gpu": {}, "cpu": {}, "texts_of_cpu": {}}
    count, of_cpu = (2, 1) if place.rehearsed else (COUNT, OF_CPU)
    texts = written(count, place.device)
    found["texts"] = texts
    found["gpu"] = scored(texts, place.device)
    place.save(found)
    if (kept := cpu_texts()) and not place.rehearsed:
        found["texts_of_cpu"] = scored(kept, place.device)
        place.save(found)
    found["cpu"] = scored(texts[:of_cpu], "cpu")
    return found


def on_cpu(folder: Path) -> Found:
    """The entry of a step `kl-cpu`, as a campaign would have left it."""
    began = time.monotonic()
    texts = written(COUNT, "cpu")
    found = {"questions": COUNT, "tokens": TOKENS, "texts": texts, "cpu": scored(texts, "cpu")}
    entry = {
        "step": "kl-cpu", "state": "done", "rehearsed": False, "roots": [str(ROOT)], "error": "", "found": found,
        "utc": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(time.monotonic() - began, 1),
        "machine": machine(),
    }  # fmt: skip
    write_json(folder / "results.json", {"kl-cpu": entry})
    return found


def cpu_texts() -> list[Text]:
    """Those of the CPU's values that are kept, so that a GPU scores the very same."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    texts: list[Text] = kept.get("kl-cpu", {}).get("found", {}).get("texts", [])
    return texts


@cache
def _load(weights: str, device: str) -> Transformer:
    """Small enough to be kept, and its file takes seconds to read."""
    from harness.embedded.llama.loading import load
    from harness.embedded.llama.settings import settle_llama

    # as it is served: wider on a GPU, which is the same function, summed otherwise
    return load(
        settle_llama({"shape": "smollm2", "weights": weights, "widened": 1 if device == "cpu" else WIDENED}), device
    )


def written(count: int, device: str) -> list[Text]:
    """Token ids of `count` questions, as the model is asked them, and of FP16's greedy answers."""
    from harness.embedded.llama.graphs import Steps
    from harness.embedded.llama.loading import tokenizer
    from harness.embedded.llama.settings import settle_llama
    from harness.scenario.prompts import read_prompts

    tokens = tokenizer(settle_llama({"shape": "smollm2"}))
    prompts = [tokens.chat(prompt.text) for prompt in read_prompts(QUESTIONS)[:count]]
    model = _load("fp16", device)
    kept = model.cache(1, max(map(len, prompts)) + TOKENS)
    steps, texts = Steps(model, kept), list[Text]()
    for prompt in prompts:
        kept.lengths[0] = 0
        answer = [int(steps.prefill(prompt, 0)[0].argmax())]
        while len(answer) < TOKENS and answer[-1] != tokens.end:
            answer.append(int(steps.run(answer[-1:], [0])[0].argmax()))
        texts.append((prompt, answer))
    return texts


def scored(texts: Sequence[Text], device: str) -> Found:
    """By build (`again`: FP16 once more): what is said of its answers, see `about`; and how long all of it took."""
    began = time.monotonic()
    reference = list(_distributions("fp16", texts, device))
    found: Found = {"device": device, "tokens": sum(len(answer) for _, answer in texts), "builds": {}}
    for build in ("fp16", "fp8", "fp8-shifted"):
        rows = [about(p, q) for p, q in zip(reference, _distributions(build, texts, device), strict=True)]
        name = "again" if build == "fp16" else build
        found["builds"][name] = {key: [row[key] for row in rows] for key in rows[0]}
    found["seconds"] = round(time.monotonic() - began, 1)
    return found


def _distributions(build: str, texts: Sequence[Text], device: str) -> Iterator[Tensor]:
    """Log-probabilities, float64 (tokens, vocabulary), of each answer."""
    import torch

    from harness.embedded.llama.graphs import Steps

    model = _load(build, device)
    kept = model.cache(1, max(len(prompt) + len(answer) for prompt, answer in texts))
    steps = Steps(model, kept)
    for prompt, answer in texts:
        kept.lengths[0] = 0
        logits = steps.prefill([*prompt, *answer[:-1]], 0, len(answer))
        yield torch.log_softmax(logits.double(), 1)


def about(p: Tensor, q: Tensor) -> Found:
    """Of log-probabilities (tokens, vocabulary): `kl` and `kl10` in nats a token, `top1`: the share of tokens of which
    another is the likeliest.
    """
    top = p.topk(TOP, 1).indices
    parts = [with_rest(x.gather(1, top).exp()) for x in (p, q)]
    few, other = (x.clamp_min(1e-30).log() for x in parts)
    return {
        "kl": float((p.exp() * (p - q)).sum(1).mean()),
        "kl10": float((few.exp() * (few - other)).sum(1).mean()),
        "top1": float((p.argmax(1) != q.argmax(1)).double().mean()),
    }


def with_rest(likely: Tensor) -> Tensor:
    """Probabilities of the likeliest tokens, and in a last column that of all others."""
    import torch

    return torch.cat([likely, (1 - likely.sum(1, keepdim=True)).clamp_min(0)], 1)


def mean(values: Sequence[float]) -> tuple[float, float]:
    """And its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return statistics.fmean(values), error


def rows(where: str, found: Found) -> list[str]:
    """Of a table, a line a build."""
    text = []
    names = {"again": "FP16 once more", "fp8": "FP8", "fp8-shifted": "FP8, a layer's scales off by a row"}
    for build, name in names.items():
        values = found["builds"][build]
        kl, error = mean(values["kl"])
        kl10, middle = statistics.fmean(values["kl10"]), statistics.median(values["kl"])
        text.append(
            f"| {where} | {name} | {len(values['kl'])} | {kl:.4f} ± {error:.4f} | {middle:.4f} | {kl10:.4f} | "
            f"{100 * mean(values['top1'])[0]:.1f} % |"
        )
    return text


HEAD = [
    "| computed on | build | answers | KL, nats a token | median | of ten tokens and the rest | another is likeliest |",
    "|---|---|--:|--:|--:|--:|--:|",
]


def lines(found: Found) -> list[str]:
    text = [*HEAD, *rows("GPU", found["gpu"])]
    text += rows("that machine's CPU, the first of these texts", found["cpu"]) if found["cpu"] else []
    text += rows("GPU, the texts of the CPU's table", found["texts_of_cpu"]) if found["texts_of_cpu"] else []
    if found["cpu"]:
        text += ["", _apart("that machine's CPU", found["gpu"], found["cpu"])]
    return text


def cpu_lines(found: Found) -> list[str]:
    return [*HEAD, *rows("CPU", found["cpu"])]


def apart_from_kept(found: Found, kept: Found) -> list[str]:
    """The same texts on the GPU and on the CPU that made the table."""
    return ["", _apart("the CPU of the table", found["texts_of_cpu"], kept["cpu"])] if found["texts_of_cpu"] else []


def _apart(where: str, one: Found, other: Found) -> str:
    values = other["builds"]["fp8"]["kl"]
    differences = [a - b for a, b in zip(one["builds"]["fp8"]["kl"], values, strict=False)]
    (difference, error), (level, _) = mean(differences), mean(values)
    return (
        f"FP8 on the GPU against {where}, answer by answer ({len(values)}): {difference:+.5f} ± {error:.5f} nats a "
        f"token, {100 * difference / level:+.1f} % of {level:.4f}."
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--on-cpu"]:
        print(json.dumps({build: mean(v["kl"]) for build, v in on_cpu(Path(sys.argv[2]))["cpu"]["builds"].items()}))
    else:
        main(measure)
