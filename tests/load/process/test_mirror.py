"""Files copied over a channel that loses, repeats and is cut: always a prefix, in the end the same bytes."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from harness.errors import RecordingError
from harness.load.process.mirror import RANGE, WINDOW, Digest, Keeper, Range, Shipper

SECOND = 1_000_000_000
RESEND = 2 * SECOND


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_what_is_appended_arrives_and_is_confirmed(here: Path, there: Path) -> None:
    shipper, keeper = Shipper(there, 3), Keeper(here, 3)
    assert shipper.due(0) == []
    append(there / "samples-3.arrow", b"abc")
    keeper.take(shipper.due(0))
    assert (here / "samples-3.arrow").read_bytes() == b"abc"
    assert shipper.behind == 3
    shipper.confirm(keeper.sizes())
    assert shipper.behind == 0
    append(there / "samples-3.arrow", b"def")
    assert [(r.offset, r.size) for r in shipper.due(0)] == [(3, 3)]


def test_only_its_own_files_and_samples_after_their_outputs(here: Path, there: Path) -> None:
    for name in ("sketches-1", "samples-1", "outputs-1", "samples-2"):
        append(there / f"{name}.arrow", b"x" * 10)
    append(there / "notes.txt", b"private")
    ranges = Shipper(there, 1).due(0)
    assert [r.file for r in ranges] == ["outputs-1.arrow", "samples-1.arrow", "sketches-1.arrow"]
    Keeper(here, 1).take(ranges)
    assert sorted(path.name for path in here.iterdir()) == ["outputs-1.arrow", "samples-1.arrow", "sketches-1.arrow"]


def test_a_window_bounds_what_is_on_its_way_and_a_silence_starts_it_again(there: Path, here: Path) -> None:
    append(there / "samples-0.arrow", random.Random(1).randbytes(3 * WINDOW))
    shipper, keeper = Shipper(there, 0), Keeper(here, 0)
    lost = shipper.due(0)
    assert sum(r.size for r in lost) == WINDOW
    assert max(r.size for r in lost) == RANGE
    assert shipper.due(RESEND - 1) == []
    again = shipper.due(RESEND)
    assert again == lost
    for _ in range(3):
        keeper.take(again)
        shipper.confirm(keeper.sizes())
        again = shipper.due(RESEND)
    assert shipper.behind == 0
    assert shipper.raw_bytes == 3 * WINDOW
    assert keeper.differing(shipper.digests()) == []


@pytest.mark.parametrize("seed", range(10))
def test_over_a_channel_that_loses_repeats_and_reorders(seed: int, there: Path, here: Path) -> None:
    dice = random.Random(seed)
    shipper, keeper = Shipper(there, 7), Keeper(here, 7)
    names = ("samples-7.arrow", "outputs-7.arrow", "readings-7.arrow")
    written = dict.fromkeys(names, b"")
    late: list[list[Range]] = []
    now, appends = 0, 60
    while appends or shipper.behind:
        now += SECOND // 4
        if appends:
            appends -= 1
            name = dice.choice(names)
            data = dice.randbytes(dice.choice((10, 1000, 3 * RANGE)))
            written[name] += data
            append(there / name, data)
        if due := shipper.due(now):
            late += [due] * dice.choice((0, 1, 1, 2))
        dice.shuffle(late)
        while late and dice.random() < 0.8:
            keeper.take(late.pop())
        for name in names:
            got = (here / name).read_bytes() if (here / name).exists() else b""
            assert written[name].startswith(got)
            assert keeper.sizes().get(name, 0) == len(got)
        if dice.random() < 0.7:
            shipper.confirm(keeper.sizes())
        if dice.random() < 0.1:
            shipper.rewind()
        assert now < 10_000 * SECOND, "does not come to an end"
    digests = shipper.digests()
    assert keeper.differing(digests) == []
    for name in filter(written.get, names):
        assert digests[name] == Digest(len(written[name]), hashlib.sha256(written[name]).hexdigest())


def test_a_copy_that_differs_is_named(here: Path, there: Path) -> None:
    shipper, keeper = Shipper(there, 0), Keeper(here, 0)
    append(there / "samples-0.arrow", b"one")
    append(there / "readings-0.arrow", b"two")
    keeper.take(shipper.due(0))
    (there / "samples-0.arrow").write_bytes(b"eno")
    assert keeper.differing(shipper.digests()) == ["samples-0.arrow"]
    (there / "outputs-0.arrow").write_bytes(b"never shipped")
    assert keeper.differing(shipper.digests()) == ["outputs-0.arrow", "samples-0.arrow"]


@pytest.mark.parametrize(
    "name",
    ["../samples-0.arrow", "samples-1.arrow", "run.json", "samples-0.parquet", "/etc/samples-0.arrow", "-0.arrow"],
)
def test_no_other_file_can_be_written(name: str, tmp_path: Path, there: Path, here: Path) -> None:
    append(there / "samples-0.arrow", b"abc")
    good = Shipper(there, 0).due(0)[0]
    with pytest.raises(ValueError, match="no file of load worker 0"):
        Keeper(here, 0).take([good._replace(file=name)])
    assert list(here.iterdir()) == []
    assert not (tmp_path / "samples-0.arrow").exists()


def test_damaged_or_boastful_ranges_are_refused(there: Path, here: Path) -> None:
    append(there / "samples-0.arrow", b"abc" * 100)
    good = Shipper(there, 0).due(0)[0]
    keeper = Keeper(here, 0)
    with pytest.raises(ValueError, match="damaged"):
        keeper.take([good._replace(data=b"\0" * len(good.data))])
    with pytest.raises(ValueError, match="no file of"):
        keeper.take([good._replace(size=1 << 30)])
    with pytest.raises(ValueError, match="damaged"):
        keeper.take([good._replace(size=301)])
    assert list(here.iterdir()) == []


def test_a_file_that_is_there_already_is_never_mixed_with_another(there: Path, here: Path) -> None:
    append(there / "samples-0.arrow", b"abc")
    append(here / "samples-0.arrow", b"somebody else's")
    with pytest.raises(RecordingError, match=r"samples-0\.arrow: cannot be written: File exists"):
        Keeper(here, 0).take(Shipper(there, 0).due(0))
