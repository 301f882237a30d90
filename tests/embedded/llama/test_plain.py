"""The arithmetic around the matrices against float64, and the choice between it and fused kernels."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from harness.embedded.llama import ops, plain

E4M3 = torch.float8_e4m3fn
KINDS = [torch.float32, torch.float16, E4M3]
HALF_STEP = 2.0**-11
"""Of FP16, relative: what one rounding costs."""
SLACK = 1e-5
"""What float32 costs on the way."""


@pytest.fixture
def rng() -> Any:
    return torch.Generator().manual_seed(11)


def e4m3_grid() -> Any:
    """All finite values of the type, from its definition: 4 bits of exponent, biased by 7, 3 of mantissa."""
    below = [m / 8 * 2.0**-6 for m in range(8)]
    above = [(1 + m / 8) * 2.0 ** (e - 7) for e in range(1, 16) for m in range(8) if (e, m) != (15, 7)]
    positive = torch.tensor(below + above, dtype=torch.float64)
    return torch.cat((-positive.flip(0), positive[1:]))


def nearest(x: Any) -> Any:
    """How far each value is from the nearest one that e4m3 has."""
    return (x.double().unsqueeze(-1) - e4m3_grid()).abs().amin(-1)


def near_half(got: Any, wanted: Any) -> None:
    """FP16, and as near to the float64 values as FP16 is."""
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.double(), wanted, rtol=HALF_STEP + SLACK, atol=2.0**-24)


# ---------------------------------------------------------------- quantising


def test_quantised_rows_are_the_nearest_of_their_own_scale(rng: Any) -> None:
    x = torch.randn(40, 96, generator=rng).half() * 10
    x[3] *= 1000
    x[4] *= 1e-3
    values, scale = plain.quantise(x)
    assert values.dtype == E4M3
    assert scale.dtype == torch.float32
    assert scale.shape == (40, 1)
    torch.testing.assert_close(scale.double(), x.double().abs().amax(1, keepdim=True) / 448, rtol=1e-6, atol=0.0)
    scaled = x.double() / scale.double()
    # float32 may put a tie on its other side
    assert ((values.double() - scaled).abs() <= nearest(scaled) + scaled.abs() * 1e-6).all()
    assert (values.float().abs().amax(1) == 448).all()  # the largest of each row uses all there is


def test_rows_of_zeros_and_of_the_largest_fp16_stay_numbers() -> None:
    values, scale = plain.quantise(torch.stack((torch.zeros(16), torch.full((16,), 65504.0))).half())
    assert (values[0].float() == 0).all()
    assert (scale > 0).all()
    torch.testing.assert_close(values[1].float() * scale[1], torch.full((16,), 65504.0))


@pytest.mark.parametrize(("given", "becomes"), [(448.0, 448.0), (449.0, 448.0), (1e5, 448.0), (-1e5, -448.0)])
def test_e4m3_is_cut_at_its_ends(given: float, becomes: float) -> None:
    """The bare conversion makes not-a-number of what is beyond."""
    assert plain.kept(torch.tensor([given]), E4M3).item() == becomes
    assert plain.kept(torch.tensor([given]), torch.float32).item() == given


# ---------------------------------------------------------------- norms and the feed-forward


@pytest.mark.parametrize("delta_kind", [None, torch.float16, torch.float32, torch.bfloat16])
def test_add_norm(rng: Any, delta_kind: Any) -> None:
    x = torch.randn(5, 96, generator=rng) * 7
    delta = None if delta_kind is None else torch.randn(5, 96, generator=rng).to(delta_kind)
    weight = 1 + torch.randn(96, generator=rng) / 4
    total = x.double() + (0 if delta is None else delta.double())
    wanted = total / (total.square().mean(1, keepdim=True) + 1e-5).sqrt() * weight.double()
    again = x.clone()
    near_half(plain.add_norm(x, delta, weight, 1e-5), wanted)
    torch.testing.assert_close(x.double(), total, rtol=2.0**-23, atol=1e-7)  # the residual itself has changed

    values, scale = plain.add_norm_quantised(again, delta, weight, 1e-5)
    assert torch.equal(again, x)
    step = (values.double() * scale.double() - wanted).abs()
    assert (step <= nearest(wanted / scale.double()) * scale.double() + wanted.abs() * 2 * HALF_STEP + 1e-6).all()


def test_silu_mul(rng: Any) -> None:
    gate_up = torch.randn(6, 2 * 80, generator=rng).half() * 5
    gate_up[0, :3] = torch.tensor([-1000.0, 1000.0, -0.0])
    gate, up = gate_up.double().chunk(2, 1)
    wanted = gate / (1 + torch.exp(-gate)) * up
    near_half(plain.silu_mul(gate_up), wanted)
    values, scale = plain.silu_mul_quantised(gate_up)
    off = (values.double() * scale.double() - wanted).abs()
    assert (off <= nearest(wanted / scale.double()) * scale.double() + wanted.abs() * 2 * HALF_STEP + 1e-6).all()


# ---------------------------------------------------------------- keys and values


def turned(x: Any, angles: Any) -> Any:
    """Each pair of neighbours as a complex number, times e^(i angle). x (n, heads, head), angles (n, head / 2)."""
    pairs = torch.view_as_complex(x.double().unflatten(2, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)[:, None]).flatten(2)


def angles_of(context: int, head: int) -> Any:
    return torch.outer(torch.arange(context).double(), 100.0 ** (-torch.arange(0, head, 2).double() / head))


@pytest.mark.parametrize("kind", KINDS)
def test_rope_store(rng: Any, kind: Any) -> None:
    heads, kv_heads, head, context = 6, 2, 16, 40
    angles = angles_of(context, head)
    qkv = torch.randn(3, (heads + 2 * kv_heads) * head, generator=rng).half()
    slots, positions = torch.tensor([4, 0, 2]), torch.tensor([39, 0, 17])
    keys, values = (plain.kept(torch.randn(5, kv_heads, context, head, generator=rng), kind) for _ in range(2))
    before = keys.clone(), values.clone()
    q = plain.rope_store(qkv, angles.cos().float(), angles.sin().float(), slots, positions, keys, values)

    each = qkv.view(3, -1, head)
    wanted = turned(each[:, : heads + kv_heads], angles[positions])
    assert q.dtype == torch.float16
    torch.testing.assert_close(q.double(), wanted[:, :heads], rtol=HALF_STEP, atol=SLACK)
    given = each[:, heads + kv_heads :].double()
    for row, (slot, position) in enumerate(zip(slots.tolist(), positions.tolist(), strict=True)):
        key, value = keys[slot, :, position].double(), values[slot, :, position].double()
        if kind == E4M3:
            assert ((key - wanted[row, heads:]).abs() <= nearest(wanted[row, heads:]) + SLACK).all()
            assert ((value - given[row]).abs() <= nearest(given[row])).all()
        else:
            torch.testing.assert_close(key, wanted[row, heads:], rtol=torch.finfo(kind).eps / 2, atol=SLACK)
            assert torch.equal(value, given[row])
        for cache, old in zip((keys, values), before, strict=True):
            cache[slot, :, position] = old[slot, :, position]
    assert all(torch.equal(now.float(), old.float()) for now, old in zip((keys, values), before, strict=True))


def test_keys_and_values_beyond_e4m3_are_cut() -> None:
    keys, values = (torch.zeros(1, 1, 4, 16).to(E4M3) for _ in range(2))
    qkv = torch.tensor([1.0] * 16 + [600.0, 0.0] * 8 + [-6000.0] * 16).half()[None]
    straight = torch.ones(4, 8), torch.zeros(4, 8)
    plain.rope_store(qkv, *straight, torch.tensor([0]), torch.tensor([2]), keys, values)
    assert keys[0, 0, 2].float().tolist() == [448.0, 0.0] * 8
    assert values[0, 0, 2].float().tolist() == [-448.0] * 16


def test_scores_depend_on_distance_alone(rng: Any) -> None:
    """What rotary positions are for: a query and a key moved on together score as before."""
    head, angles = 16, angles_of(60, 16)
    row = torch.randn(head, generator=rng)
    qkv = torch.cat((row, row.flip(0), row)).half()[None]
    scores = []
    for first in (0, 7, 48):
        keys, values = (torch.zeros(1, 1, 60, head) for _ in range(2))
        q = [
            plain.rope_store(qkv, angles.cos().float(), angles.sin().float(), torch.tensor([0]), at, keys, values)
            for at in (torch.tensor([first]), torch.tensor([first + 5]))
        ]
        scores.append(float(q[1][0, 0].float() @ keys[0, 0, first]))
    assert scores == pytest.approx([scores[0]] * 3, abs=0.02)
    assert scores[0] != pytest.approx(float(row @ row.flip(0)), abs=0.1)  # and at no distance as unturned


# ---------------------------------------------------------------- attention


def softmaxed(query: Any, keys: Any, values: Any) -> Any:
    """One row in float64: query (heads, head); keys, values (kv_heads, tokens, head). (heads * head,)."""
    group = len(query) // len(keys)
    mixed = []
    for number, one in enumerate(query.double()):
        key, value = keys[number // group].double(), values[number // group].double()
        weights = torch.softmax(key @ one / math.sqrt(len(one)), 0)
        mixed.append(weights @ value)
    return torch.cat(mixed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("heads", "kv_heads", "head"), [(4, 2, 16), (9, 3, 64), (4, 4, 128)])
def test_decode_attention(rng: Any, kind: Any, heads: int, kv_heads: int, head: int) -> None:
    keys, values = (plain.kept(torch.randn(6, kv_heads, 90, head, generator=rng), kind) for _ in range(2))
    q = torch.randn(4, heads, head, generator=rng).half()
    slots, lengths = torch.tensor([5, 0, 3, 1]), torch.tensor([90, 1, 33, 64])
    for slot, length in zip(slots.tolist(), lengths.tolist(), strict=True):
        keys[slot, :, length:] = values[slot, :, length:] = float("nan")  # nobody may look there
    mixed = plain.decode_attention(q, keys, values, slots, lengths)
    assert mixed.shape == (4, heads * head)
    assert mixed.dtype == torch.float16
    for row, (slot, length) in enumerate(zip(slots.tolist(), lengths.tolist(), strict=True)):
        wanted = softmaxed(q[row], keys[slot, :, :length].half(), values[slot, :, :length].half())
        assert (mixed[row].double() - wanted).norm() <= ops.ATTENTION * wanted.norm()


def test_a_prompts_last_rows_see_what_is_before_them(rng: Any) -> None:
    keys, values = (torch.randn(2, 30, 16, generator=rng).half() for _ in range(2))
    q = torch.randn(7, 4, 16, generator=rng).half()
    mixed = plain.attention(q, keys, values)
    for row in range(7):
        seen = 30 - 6 + row
        wanted = softmaxed(q[row], keys[:, :seen], values[:, :seen])
        assert (mixed[row].double() - wanted).norm() <= ops.ATTENTION * wanted.norm()


def test_a_sequence_without_tokens_gives_zeros() -> None:
    """A place in a batch that nobody has: numbers, whatever lies in the cache."""
    cache = torch.full((1, 1, 8, 16), float("nan"))
    mixed = plain.decode_attention(torch.ones(1, 2, 16).half(), cache, cache, torch.tensor([0]), torch.tensor([0]))
    assert (mixed == 0).all()


# ---------------------------------------------------------------- the choice

SMALL = (ops.Trial(64, 4, 2, 16, 128, torch.float16, capacity=80), ops.Trial(64, 4, 2, 16, 128, E4M3, capacity=80))


@pytest.fixture
def fresh() -> Iterator[None]:
    ops.choose.cache_clear()
    yield
    ops.choose.cache_clear()


def fakes(**others: Any) -> SimpleNamespace:
    """Functions of their own that do what plain's do, but for `others`."""

    def same(name: str) -> Any:
        return lambda *args: getattr(plain, name)(*args)

    return SimpleNamespace(**{name: same(name) for name in ops.NAMES} | others)


def test_a_cpu_uses_plain() -> None:
    chosen = ops.choose("cpu")
    assert all(getattr(chosen, name) is getattr(plain, name) for name in ops.NAMES)
    assert not chosen.capturable
    assert [field.name for field in dataclasses.fields(chosen)] == [*ops.NAMES, "capturable"]


@pytest.mark.usefixtures("fresh")
def test_without_the_compiler_a_gpu_uses_plain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "harness.embedded.llama.kernels", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    assert ops.choose("cuda") is ops.PLAIN
    assert ops.choose("cuda") is ops.PLAIN
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("llama: no fused kernels: ")


def test_kernels_that_agree_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    kernels = fakes()
    chosen = ops.settle(kernels, "cpu", SMALL)
    assert all(getattr(chosen, name) is getattr(kernels, name) for name in ops.NAMES)
    assert chosen.capturable
    assert capsys.readouterr().err == ""


def raises(*_: Any) -> Any:
    raise RuntimeError("no kernel image is available\nfor execution on the device")


def unscaled_keys(*args: Any) -> Any:
    q = plain.rope_store(*args)
    args[5][args[3], :, args[4]] = args[5][args[3], :, (args[4] + 1) % 80]
    return q


def writes_elsewhere(*args: Any) -> Any:
    q = plain.rope_store(*args)
    args[6][args[3], :, (args[4] + 1) % 80] = args[6][args[3], :, args[4]]
    return q


def bare_cast(*args: Any) -> Any:
    """Keeps what is beyond 448 as not-a-number, as the conversion without a cut does."""
    q = plain.rope_store(*args)
    if args[6].dtype == E4M3:
        args[6].view(torch.uint8)[args[6].float() == 448] = 0x7F
    return q


def misses_a_token(q: Any, keys: Any, values: Any, slots: Any, lengths: Any) -> Any:
    return plain.decode_attention(q, keys, values, slots, (lengths - 1).clamp_min(1))


def another_head(*args: Any) -> Any:
    return plain.decode_attention(args[0].roll(1, 1), *args[1:])


def cut_short(x: Any) -> Any:
    """Towards zero, not to the nearest."""
    values, scale = plain.quantise(x)
    down = values.view(torch.uint8) - ((values.float().abs() * scale > x.float().abs()) & (values.float() != 0)).byte()
    return down.view(E4M3), scale


def no_residual(x: Any, delta: Any, weight: Any, epsilon: float) -> Any:
    return plain.add_norm(x.clone(), delta, weight, epsilon)


def half_residual(x: Any, delta: Any, weight: Any, epsilon: float) -> Any:
    x.copy_((x if delta is None else x + delta).half())
    return plain.add_norm(x, None, weight, epsilon)


def not_a_number(gate_up: Any) -> Any:
    out = plain.silu_mul(gate_up)
    out[0, 0] = float("nan")
    return out


def scales_off(x: Any) -> Any:
    values, scale = plain.silu_mul_quantised(x)
    return values, scale.roll(1, 0)


@pytest.mark.parametrize(
    ("name", "kernel", "because"),
    [
        ("quantise", raises, "RuntimeError: no kernel image is available"),
        ("quantise", cut_short, "a step of e4m3 off"),
        ("add_norm", no_residual, "values differ"),
        ("add_norm", half_residual, "values differ"),
        ("add_norm_quantised", lambda *args: plain.add_norm(*args), "not torch.float8_e4m3fn"),
        ("silu_mul", not_a_number, "1 of 384 values differ"),
        ("silu_mul", lambda x: plain.silu_mul(x).float(), "not torch.float16"),
        ("silu_mul_quantised", scales_off, "values differ"),
        ("rope_store", unscaled_keys, "values differ"),
        ("rope_store", writes_elsewhere, "values differ"),
        ("rope_store", bare_cast, "values differ"),
        ("decode_attention", raises, "RuntimeError"),
        ("decode_attention", misses_a_token, "a head differs by"),
        ("decode_attention", another_head, "a head differs by"),
    ],
)
def test_a_kernel_that_raises_or_differs_is_replaced(
    name: str, kernel: Any, because: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kernels = fakes(**{name: kernel})
    chosen = ops.settle(kernels, "cpu", SMALL)
    assert getattr(chosen, name) is getattr(plain, name)
    assert all(getattr(chosen, other) is getattr(kernels, other) for other in ops.NAMES if other != name)
    assert chosen.capturable == (name != "decode_attention")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"llama: {name} stays plain PyTorch: ")
    assert because in said[0]


def test_one_step_off_now_and_then_is_no_difference() -> None:
    """Where float32's error lies across a tie."""

    def flips(x: Any) -> Any:
        values, scale = plain.quantise(x)
        codes = values.view(torch.uint8)
        codes[0, 3] += 1 if int(codes[0, 3]) & 0x7F < 0x70 else -1
        return values, scale

    assert ops.disagreement("quantise", flips, plain.quantise, "cpu", SMALL) == ""


def test_what_pytorch_lacks_on_a_device_is_computed_on_the_cpu() -> None:
    calls: list[int] = []

    def lacking(x: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise NotImplementedError('"amax" not implemented for this device')
        return plain.quantise(x)

    x = torch.ones(2, 16).half()
    assert ops.differs("quantise", plain.quantise, lacking, (x,)) == ""
    assert len(calls) == 2
