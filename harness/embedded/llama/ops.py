"""Which functions a device uses: `plain`'s; on a GPU those of `kernels`, each once it has computed what plain does.

A kernel that raises or differs is replaced by plain's function, and stderr says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from harness.embedded.llama import plain
from harness.embedded.llama.plain import E4M3, Quantised

Normed = Callable[[Tensor, "Tensor | None", Tensor, float], Tensor]
NormedQuantised = Callable[[Tensor, "Tensor | None", Tensor, float], Quantised]
Stored = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
Attended = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

FLOAT32 = 2.0**-20
"""How far apart sums in another order are, relatively: some steps. Other types were rounded: one of their own steps."""
SCALE = 1e-3
"""The same for a scale: its row's largest value was rounded to FP16."""
CANCELLED = 2.0**-21
"""A small difference of large numbers is only as exact as those are in float32."""
E4M3_LEAST = 2.0**-9
"""The step of e4m3 around zero."""
FLIPPED = 0.01
"""e4m3 differs only where float32's error, or a step of FP16 before, lies across a tie: far less than 1 % of values."""
ATTENTION = 2.0**-8
"""Of one head's result, by its length: FP16 rounds scores, weights and result, each by 2^-11, scores of up to 5."""
FORGIVEN = 2
"""Values that may have flipped however few there are."""


@dataclass(frozen=True, slots=True)
class Ops:
    """What `plain` describes, by the same names. `capturable`: attention waits for nothing, so a CUDA graph can hold
    a step.
    """

    quantise: Callable[[Tensor], Quantised]
    add_norm: Normed
    add_norm_quantised: NormedQuantised
    silu_mul: Callable[[Tensor], Tensor]
    silu_mul_quantised: Callable[[Tensor], Quantised]
    rope_store: Stored
    decode_attention: Attended
    capturable: bool = False


NAMES = tuple(name for name in Ops.__slots__ if name != "capturable")

PLAIN = Ops(**{name: getattr(plain, name) for name in NAMES})


@dataclass(frozen=True, slots=True)
class Trial:
    """Widths to try the operations at, and the type that keys and values are kept in."""

    width: int
    heads: int
    kv_heads: int
    head: int
    hidden: int
    kept: torch.dtype
    rows: int = 3
    capacity: int = 640


TRIALS = (
    Trial(64, 4, 2, 16, 128, torch.float32),
    Trial(576, 9, 3, 64, 1536, torch.float16),
    Trial(4608, 9, 3, 64, 12_288, E4M3),
    Trial(4096, 32, 32, 128, 11_008, torch.float16, rows=2),
    Trial(4096, 32, 8, 128, 14_336, E4M3, rows=2),
)
"""Those of the tiny shape, of SmolLM2, of SmolLM2 widened as `model` has it on a GPU, and of 7b and 8b (shapes.py)."""


@cache
def choose(device: str) -> Ops:
    """What to compute with on "cpu" or "cuda"; found out once a process. Without the package `triton`: plain's."""
    if not device.startswith("cuda"):
        return PLAIN
    try:
        from harness.embedded.llama import kernels
    except Exception as error:  # noqa: BLE001 - a broken compiler must not cost the model
        _say(f"no fused kernels: {_brief(error)}")
        return PLAIN
    return settle(kernels, device)


def settle(kernels: Any, device: str, trials: Sequence[Trial] = TRIALS) -> Ops:
    """The functions of `kernels` (a module, or whatever has plain's names) that agree with plain's on this device."""
    chosen: dict[str, Any] = {}
    for name in NAMES:
        kernel, reference = getattr(kernels, name), getattr(plain, name)
        wrong = disagreement(name, kernel, reference, device, trials)
        chosen[name] = reference if wrong else kernel
        if wrong:
            _say(f"{name} stays plain PyTorch: {wrong}")
    if device.startswith("cuda"):
        torch.cuda.empty_cache()  # what the trials took is a model's again
    return Ops(**chosen, capturable=chosen["decode_attention"] is not plain.decode_attention)


def disagreement(name: str, kernel: Any, reference: Any, device: str, trials: Sequence[Trial]) -> str:
    """What is wrong with a kernel, in words; empty where it raises nothing and agrees in all trials."""
    for trial in trials:
        for args in arguments(name, trial, device):
            try:
                wrong = differs(name, kernel, reference, args)
            except Exception as error:  # noqa: BLE001 - a compiler's errors are of any kind
                return _brief(error)
            if wrong:
                return f"{wrong} at width {trial.width}, kept as {str(trial.kept).removeprefix('torch.')}"
    return ""


def differs(name: str, kernel: Any, reference: Any, args: tuple[Any, ...]) -> str:
    """Both called with copies of `args`: how far results, and arguments afterwards, are apart; empty: near enough."""
    return _apart(name, _called(kernel, args), _expected(reference, args))


def arguments(name: str, trial: Trial, device: str, seed: int = 0) -> Iterator[tuple[Any, ...]]:
    """Random arguments of one operation, each set another way to call it. The same ones for the same seed."""
    rng = torch.Generator().manual_seed(seed)
    n, t = trial.rows, trial

    def normal(*size: int, by: float = 1.0) -> Tensor:
        return (torch.randn(size, generator=rng) * by).to(device)

    if name == "quantise":
        for width in (t.width, t.hidden):
            x = normal(n, width, by=3.0).half()
            x[:, 5] *= 20  # outliers, as activations have them
            x[-1] = 0
            yield (x,)
    elif name.startswith("add_norm"):
        weight = 1 + normal(t.width, by=0.1)
        yield normal(n, t.width), None, weight, 1e-5
        yield normal(n, t.width, by=4.0), normal(n, t.width).half(), weight, 1e-5
    elif name.startswith("silu_mul"):
        yield (normal(n, 2 * t.hidden, by=3.0).half(),)
    else:
        slots = torch.randperm(n + 2, generator=rng)[:n].to(device)
        cache = (n + 2, t.kv_heads, t.capacity, t.head)
        keys, values = (plain.kept(normal(*cache), t.kept) for _ in range(2))
        # the first, the last, and any
        positions = torch.randint(0, t.capacity, (n,), generator=rng)
        positions[0], positions[-1] = 0, t.capacity - 1
        if name == "rope_store":
            qkv = normal(n, (t.heads + 2 * t.kv_heads) * t.head, by=3.0).half()
            qkv[:, ::7] *= 200  # beyond what e4m3 holds
            angles = torch.rand(t.capacity, t.head // 2, generator=rng) * 6.28
            yield qkv, angles.cos().to(device), angles.sin().to(device), slots, positions.to(device), keys, values
        else:
            yield normal(n, t.heads, t.head).half(), keys, values, slots, positions.to(device) + 1


def _called(function: Any, args: tuple[Any, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """What it returned, and its arguments afterwards: it may write into its own copies."""
    own = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args]
    result = function(*own)
    return list(result) if isinstance(result, tuple) else [result], [arg for arg in own if isinstance(arg, Tensor)]


def _expected(reference: Any, args: tuple[Any, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """As plain computes it there; on the CPU where PyTorch has not all of it for that device."""
    try:
        return _called(reference, args)
    except NotImplementedError:
        device = next(arg.device for arg in args if isinstance(arg, Tensor))
        here = tuple(arg.cpu() if isinstance(arg, Tensor) else arg for arg in args)
        results, written = _called(reference, here)
        return [result.to(device) for result in results], [arg.to(device) for arg in written]


def _apart(name: str, found: tuple[list[Tensor], list[Tensor]], expected: tuple[list[Tensor], list[Tensor]]) -> str:
    for got, wanted in zip(found[0] + found[1], expected[0] + expected[1], strict=True):
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            return f"{got.dtype} {tuple(got.shape)}, not {wanted.dtype} {tuple(wanted.shape)}"
    if name == "decode_attention":
        size = expected[1][0].shape  # of the queries
        got, wanted = (found[0][0].float().view(size), expected[0][0].float().view(size))
        off, length = (got - wanted).norm(dim=2), wanted.norm(dim=2)
        share = float((off / length.clamp_min(1e-6)).max())
        return "" if share <= ATTENTION else f"a head differs by {share:.2g} of its length"
    pairs = [(got, wanted, SCALE) for got, wanted in zip(found[0], expected[0], strict=True)]
    pairs += [(got, wanted, FLOAT32) for got, wanted in zip(found[1], expected[1], strict=True)]
    return next(filter(None, (_values_apart(*pair) for pair in pairs)), "")


def _values_apart(got: Tensor, wanted: Tensor, of_float32: float) -> str:
    """In words; empty where each value is within a step. Not a number is never within one."""
    if not wanted.dtype.is_floating_point:
        return "" if torch.equal(got, wanted) else "whole numbers were written"
    kind = wanted.dtype
    got, wanted = got.float(), wanted.float()
    size = wanted.abs()
    least = E4M3_LEAST if kind == E4M3 else float(size.max()) * CANCELLED
    step = of_float32 if kind == torch.float32 else torch.finfo(kind).eps
    near = (got - wanted).abs() <= size * step + least
    if not bool(near.all()):
        return f"{int((~near).sum())} of {near.numel()} values differ, by up to {float((got - wanted).abs().max()):.3g}"
    flipped = int((got != wanted).sum()) if kind == E4M3 else 0
    if flipped > FORGIVEN + FLIPPED * got.numel():
        return f"{flipped} of {got.numel()} values are a step of e4m3 off"
    return ""


def _brief(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__


def _say(text: str) -> None:
    print(f"llama: {text}", file=sys.stderr, flush=True)
