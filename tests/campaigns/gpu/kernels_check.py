"""Do the fused kernels of harness.embedded.llama compute what plain does, do they compile, and what do they cost?

    python -m tests.campaigns.gpu.kernels_check --interpret   no GPU: Triton's interpreter on CPU tensors against plain
    python -m tests.campaigns.gpu.kernels_check --compile     no GPU: each kernel for sm_90; registers, spills, seconds
    python -m tests.campaigns.gpu.kernels_check --device      a GPU: against plain there, in a CUDA graph too, and times
    python -m tests.campaigns.gpu.kernels_check --tune        a GPU: attention's times by its constants

Each prints one JSON object to stdout and what it does to stderr; exit code 1 where a kernel differs, spills or does not
compile. Wants a PyTorch built for CUDA, which brings the compiler `triton`, and nothing else of the harness's needs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MODES = ("interpret", "compile", "device", "tune")
ARCHITECTURE = 90

Row = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    for mode in MODES:
        which.add_argument(f"--{mode}", dest="mode", action="store_const", const=mode)
    mode = parser.parse_args().mode
    if mode == "interpret":
        os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined, so before they are imported
    began = time.monotonic()
    found, good = {"interpret": interpret, "compile": compiled, "device": on_device, "tune": tune}[mode]()
    found = {"mode": mode, "good": good, **_versions(), **found, "seconds": round(time.monotonic() - began, 1)}
    print(json.dumps(found))
    return 0 if good else 1


def _versions() -> Row:
    import torch
    import triton

    row: Row = {"torch": torch.__version__, "triton": triton.__version__}
    if torch.cuda.is_available():
        row["gpu"] = torch.cuda.get_device_name()
    return row


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------- what is tried


def trials() -> list[Any]:
    """Each shape with each type of keys and values; and one of so many tokens that all 64 splits are used."""
    import torch

    from harness.embedded.llama.ops import Trial

    float8 = torch.float8_e4m3fn
    return [
        *(Trial(64, 4, 2, 16, 128, kept) for kept in (torch.float32, torch.float16, float8)),
        *(Trial(576, 9, 3, 64, 1536, kept) for kept in (torch.float32, torch.float16, float8)),
        *(Trial(4096, 32, 32, 128, 11_008, kept, rows=2) for kept in (torch.float32, torch.float16, float8)),
        *(Trial(4096, 32, 8, 128, 14_336, kept, rows=2) for kept in (torch.float16, float8)),
        Trial(2048, 32, 8, 64, 8192, float8, rows=2),
        Trial(576, 9, 3, 64, 49_152, float8),
        Trial(64, 4, 1, 16, 128, torch.float16, rows=5, capacity=9000),
        Trial(64, 4, 4, 16, 144, float8, rows=70, capacity=300),
    ]


def edges(device: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls that the trials do not make: other types, slices, rows that end early beside what must not be read."""
    import torch

    from harness.embedded.llama.plain import E4M3, kept

    rng = torch.Generator().manual_seed(7)

    def normal(*size: int) -> Any:
        return torch.randn(size, generator=rng).to(device)

    for kind in (torch.float32, torch.bfloat16):
        for name in ("add_norm", "add_norm_quantised"):
            yield name, (normal(4, 576), normal(4, 576).to(kind), 1 + normal(576) / 9, 1e-5)
    yield "add_norm", (normal(8, 576)[-3:], normal(8, 700).half()[-3:, :576], 1 + normal(576) / 9, 1e-5)
    yield "quantise", (normal(3, 576),)
    yield "quantise", (normal(3, 600).half()[:, :576],)
    yield "quantise", (torch.full((1, 576), 60_000.0, device=device).half(),)
    for name in ("silu_mul", "silu_mul_quantised"):
        yield name, (normal(5, 3100).half()[:, :3072] * 30,)
    for kind in (torch.float32, torch.float16, E4M3):
        keys, values = (kept(normal(4, 3, 700, 64), kind) for _ in range(2))
        lengths = torch.tensor([0, 1, 64, 129])
        for slot, length in enumerate(lengths.tolist()):
            keys[slot, :, length:] = float("nan")
            values[slot, :, length:] = float("nan")
        yield "decode_attention", (
            normal(4, 9, 64).half(), keys, values, torch.arange(4, device=device), lengths.to(device),
        )  # fmt: skip


def _agree(device: str, several: list[Any]) -> tuple[list[Row], bool]:
    from harness.embedded.llama import kernels, ops, plain

    rows: list[Row] = []
    for name in ops.NAMES:
        kernel, reference = getattr(kernels, name), getattr(plain, name)
        for trial in several:
            began = time.monotonic()
            wrong = ops.disagreement(name, kernel, reference, device, [trial])
            rows.append({
                "operation": name, "width": trial.width, "heads": trial.heads, "kv_heads": trial.kv_heads,
                "head": trial.head, "hidden": trial.hidden, "kept": _word(trial.kept), "capacity": trial.capacity,
                "rows": trial.rows, "wrong": wrong, "seconds": round(time.monotonic() - began, 2),
            })  # fmt: skip
        _say(f"{name}: {', '.join(sorted({row['wrong'] or 'equal' for row in rows if row['operation'] == name}))}")
    for name, args in edges(device):
        try:
            wrong = ops.differs(name, getattr(kernels, name), getattr(plain, name), args)
        except Exception as error:  # noqa: BLE001 - the table says which, and the others are tried all the same
            wrong = f"{type(error).__name__}: {error}"
        sizes = [f"{_word(arg.dtype)} {tuple(arg.shape)}" for arg in args if hasattr(arg, "dtype")]
        rows.append({"operation": name, "edge": ", ".join(sizes), "wrong": wrong})
        if wrong:
            _say(f"{name}, {rows[-1]['edge']}: {wrong}")
    return rows, not any(row["wrong"] for row in rows)


def _word(kind: Any) -> str:
    return str(kind).removeprefix("torch.")


# ---------------------------------------------------------------- without a GPU: results


def interpret() -> tuple[Row, bool]:
    import torch

    torch.set_num_threads(1)
    _mend_interpreter()
    rows, good = _agree("cpu", trials())
    return {"agree": rows}, good


def _mend_interpreter() -> None:
    """The interpreter of triton 3.6 cuts e4m3 instead of rounding to the nearest, ties to even, as a GPU does; and it
    takes int() of an array of one, which numpy 2.5 refuses.
    """
    import numpy as np
    import torch
    import triton.language as tl
    from triton.runtime import interpreter

    np.seterr(over="ignore")  # exp of a large number is infinite on a GPU, too
    theirs, patch = interpreter._convert_float, interpreter._patch_lang_tensor
    floats = {tl.float16: torch.float16, tl.float32: torch.float32}

    def convert(data: Any, source: Any, target: Any, rounding: Any) -> Any:
        values = torch.from_numpy(np.ascontiguousarray(data))
        if target == tl.float8e4nv and source in floats:
            return values.float().to(torch.float8_e4m3fn).view(torch.uint8).numpy()
        if source == tl.float8e4nv and target in floats:
            return values.view(torch.float8_e4m3fn).to(floats[target]).numpy()
        return theirs(data, source, target, rounding)

    def patch_tensor(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._convert_float, interpreter._patch_lang_tensor = convert, patch_tensor


# ---------------------------------------------------------------- without a GPU: machine code


def compiled() -> tuple[Row, bool]:
    """Every launch that the trials make, compiled as it would be there; ptxas tells registers and spills."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from harness.embedded.llama import kernels, ops

    with _launches() as launches:
        for name in ops.NAMES:
            for trial in trials():
                for args in ops.arguments(name, trial, "cpu"):
                    getattr(kernels, name)(*args)
        for name, args in edges("cpu"):
            getattr(kernels, name)(*args)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, triton.knobs.cache.scope():
        triton.knobs.cache.dir = folder  # what an earlier run compiled would take no time
        for kernel, signature, constants, attributes, options in launches.values():
            row: Row = {"kernel": kernel.__name__, **_types(signature), **constants, **options}
            began = time.monotonic()
            try:
                source = ASTSource(kernel, signature, constants, attributes)
                program = triton.compile(source, target=GPUTarget("cuda", ARCHITECTURE, 32), options=options)
                row |= {"seconds": round(time.monotonic() - began, 2), "shared": program.metadata.shared, "wrong": ""}
                row |= _ptxas(program.asm["ptx"], Path(folder))
            except Exception as error:  # noqa: BLE001 - the table says which, and the others are tried all the same
                row["wrong"] = f"{type(error).__name__}: {error}"
            rows.append(row)
            _say(" ".join(f"{key}={value}" for key, value in row.items() if value != ""))
    _say(f"{len(rows)} kernels in {sum(row.get('seconds', 0) for row in rows):.1f} s")
    return {"compiled": rows}, not any(row["wrong"] or row["spilled"] for row in rows)


@contextmanager
def _launches() -> Iterator[dict[str, tuple[Any, ...]]]:
    """Instead of being run, launches are kept: (kernel, signature, constants, attributes, options), each kind once."""
    import torch
    from triton.runtime.jit import JITFunction

    pointers = {
        torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.float8_e4m3fn: "*fp8e4nv",
        torch.int64: "*i64",
    }  # fmt: skip
    kept: dict[str, tuple[Any, ...]] = {}

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        signature: dict[str, str] = {}
        constants: dict[str, Any] = {}
        attributes: dict[tuple[int, ...], Any] = {}
        for index, (parameter, arg) in enumerate(zip(self.params, args, strict=True)):
            aligned = not (parameter.do_not_specialize or parameter.do_not_specialize_on_alignment)
            if parameter.is_constexpr:
                signature[parameter.name], constants[parameter.name] = "constexpr", arg
                aligned = False
            elif isinstance(arg, torch.Tensor):
                signature[parameter.name] = pointers[arg.dtype]
            elif isinstance(arg, float):
                signature[parameter.name], aligned = "fp32", False
            else:
                signature[parameter.name] = "i32"
                aligned = aligned and arg % 16 == 0
            if aligned:
                attributes[(index,)] = [["tt.divisibility", 16]]
        launch = (self, signature, constants, attributes, options)
        kept.setdefault(repr((self.__name__, *launch[1:])), launch)

    theirs, JITFunction.run = JITFunction.run, run
    try:
        yield kept
    finally:
        JITFunction.run = theirs


def _types(signature: dict[str, str]) -> dict[str, str]:
    """Of what comes in more than one type."""
    return {
        name: kind.removeprefix("*") for name, kind in signature.items() if name in ("x", "delta", "out", "keys", "q")
    }


def _ptxas(ptx: str, folder: Path) -> Row:
    import triton

    file = folder / "kernel.ptx"
    file.write_text(ptx)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    command = [str(tool), "-v", f"--gpu-name=sm_{ARCHITECTURE}a", str(file), "-o", str(folder / "kernel.cubin")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", said)
    assert registers is not None, said
    return {"registers": int(registers[1]), "spilled": sum(map(int, re.findall(r"(\d+) bytes spill", said)))}


# ---------------------------------------------------------------- on a GPU

COLD_BYTES = 256 * 2**20
"""Several times what a GPU's cache holds: between two turns at the same data, it is gone from there."""
COPIES = 32
TIMED = 15
ROW_COUNTS = (1, 16, 256, 1024)
SEQUENCES = ((1, 512), (1, 8192), (1, 32_768), (16, 2048), (64, 2048), (256, 512))
"""Rows, and tokens of each; the cache has room for four times as many."""


def on_device() -> tuple[Row, bool]:
    import torch

    _need_gpu()
    rows, good = _agree("cuda", trials())
    wrong = captured()
    _say(f"in a CUDA graph: {wrong or 'equal'}")
    times = [*_row_times(), *_attention_times()]
    torch.cuda.synchronize()
    return {"agree": rows, "captured_wrong": wrong, "times": times}, good and not wrong


def tune() -> tuple[Row, bool]:
    """Attention by one constant at a time."""
    from harness.embedded.llama.kernels import attention

    _need_gpu()
    choices = {
        "PROGRAMS": (512, 1024, 4096, 8192), "LEAST": (64, 256, 512), "BLOCK": (32, 128), "WARPS": (2, 8),
        "STAGES": (2, 4, 5),
    }  # fmt: skip
    rows = [{"constant": "as they are", **row} for row in _attention_times(plain_too=False)]
    for constant, values in choices.items():
        before = getattr(attention, constant)
        for value in values:
            setattr(attention, constant, value)
            try:
                rows += [{"constant": constant, "value": value, **row} for row in _attention_times(plain_too=False)]
            except Exception as error:  # noqa: BLE001 - too much shared memory, say: a finding, too
                rows.append({"constant": constant, "value": value, "wrong": f"{type(error).__name__}: {error}"})
        setattr(attention, constant, before)
    return {"times": rows}, True


def _need_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU here")


def captured() -> str:
    """One graph, captured once, replayed for other queries, slots and lengths: equal to plain each time?"""
    import torch

    from harness.embedded.llama import kernels, ops, plain

    for trial in (ops.Trial(576, 9, 3, 64, 1536, torch.float16), ops.Trial(576, 9, 3, 64, 1536, torch.float8_e4m3fn)):
        seeds = [next(ops.arguments("decode_attention", trial, "cuda", seed)) for seed in range(3)]
        held = tuple(arg.clone() for arg in seeds[0])
        graph, out = _capture(lambda held=held: kernels.decode_attention(*held))
        for args in seeds[::-1]:
            for mine, new in zip(held, args, strict=True):
                mine.copy_(new)
            graph.replay()
            wrong = ops.differs("decode_attention", lambda *_, out=out: out, plain.decode_attention, args)
            if wrong:
                return wrong
    return ""


def _capture(call: Callable[[], Any]) -> tuple[Any, Any]:
    """After two calls on a side stream: a compiler has compiled by then, and a library has its workspace."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()
    return graph, out


def _us(function: Any, several: list[tuple[Any, ...]], *, graph: bool) -> float:
    """Microseconds of one call, the median of replays; each call of a replay has data of its own, cold."""
    import torch

    def all_of_them() -> None:
        for args in several:
            function(*args)

    replay = _capture(all_of_them)[0].replay if graph else all_of_them
    replay()
    took: list[float] = []
    for _ in range(TIMED):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        replay()
        ended.record()
        ended.synchronize()
        took.append(began.elapsed_time(ended) * 1000 / len(several))
    return statistics.median(took)


def _row_times() -> Iterator[Row]:
    import torch

    from harness.embedded.llama import kernels, ops, plain

    for width, heads, kv_heads, head, hidden in ((576, 9, 3, 64, 49_152), (4096, 32, 32, 128, 11_008)):
        for name in ops.NAMES:
            for rows in ROW_COUNTS if name != "decode_attention" else ():
                trial = ops.Trial(width, heads, kv_heads, head, hidden, torch.float16, rows=rows, capacity=16)
                args = list(ops.arguments(name, trial, "cuda"))[-1]
                moved = sum(_bytes(arg) for arg in args[:5] if isinstance(arg, torch.Tensor))  # not the caches
                copies = min(max(COLD_BYTES // moved, 1), COPIES)
                several = [
                    tuple(arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in args) for _ in range(copies)
                ]
                row: Row = {"operation": name, "width": width, "hidden": hidden, "rows": rows}
                for key, module in (("kernel_us", kernels), ("plain_us", plain)):
                    row[key] = round(_us(getattr(module, name), several, graph=True), 2)
                yield row
        _say(f"timed at width {width}")


def _attention_times(plain_too: bool = True) -> Iterator[Row]:
    """kernel in a graph; plain, which asks the device for lengths, cannot be in one: its time is the host's, too."""
    import torch

    from harness.embedded.llama import kernels, plain

    for shape, heads, kv_heads, head in (("smollm2", 9, 3, 64), ("7b", 32, 32, 128), ("8b", 32, 8, 128)):
        for kept in (torch.float16, torch.float8_e4m3fn):
            for rows, length in SEQUENCES:
                read = 2 * rows * kv_heads * length * head * kept.itemsize
                args = [_filled(rows, length, heads, kv_heads, head, kept)]
                while read * len(args) < COLD_BYTES and len(args) < COPIES:
                    args.append(_filled(rows, length, heads, kv_heads, head, kept))
                us = _us(kernels.decode_attention, args, graph=True)
                row: Row = {
                    "operation": "decode_attention", "shape": shape, "kept": _word(kept), "rows": rows,
                    "length": length, "kernel_us": round(us, 2), "read_gb_per_s": round(read / us / 1000, 1),
                }  # fmt: skip
                if plain_too:
                    row["plain_us"] = round(_us(plain.decode_attention, args, graph=False), 2)
                yield row
                del args
                torch.cuda.empty_cache()
        _say(f"attention timed: {shape}")


def _filled(rows: int, length: int, heads: int, kv_heads: int, head: int, kept: Any) -> tuple[Any, ...]:
    import torch

    from harness.embedded.llama.plain import kept as in_kind

    size = (rows, kv_heads, 4 * length, head)
    keys, values = (torch.empty(size, dtype=kept, device="cuda") for _ in range(2))
    for cache in (keys, values):
        cache[:, :, :length] = in_kind(torch.randn((kv_heads, length, head), device="cuda", dtype=torch.float16), kept)
    return (
        torch.randn((rows, heads, head), device="cuda", dtype=torch.float16), keys, values,
        torch.randperm(rows, device="cuda"), torch.full((rows,), length, device="cuda"),
    )  # fmt: skip


def _bytes(tensor: Any) -> int:
    return tensor.numel() * tensor.element_size()


if __name__ == "__main__":
    sys.exit(main())
