"""A recording as the judge and the report see it: its tables, and what `run.json` says of the run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import pyarrow as pa
import pyarrow.compute as pc

from harness.errors import RecordingError, UsageError
from harness.recording import importers
from harness.recording.files import conform, read_parquet
from harness.recording.large import BATCH_ROWS, SampleFile
from harness.recording.parts import stream_parts
from harness.recording.schema import FORMAT_VERSION, REQUIRED_SAMPLE_COLUMNS, SAMPLES
from harness.recording.sealing import parquet_path, read_table
from harness.recording.shipped import folder_sketches, is_sketches, read_sketches
from harness.types import ArmName, Gate, StagePlan, StageRecord, Status

META_NAME = "run.json"


@dataclass(frozen=True)
class Recording:
    """`folder` holds the files (of a bare samples file: where it lies); `meta` is run.json, {} if none.

    `samples` has the columns of SAMPLES (in a look at a run under way those that the judge reads); what somebody else's
    file does not know is -1 or "".
    `outputs`, `readings`, `chunks` and `scores` are None if the run has none. `sketches` and `sums` stand in for
    samples that are not there; they are None if those are. `large`: the file that has the samples, of which `samples`
    then has none.
    """

    folder: Path
    meta: dict[str, Any]
    samples: pa.Table
    outputs: pa.Table | None = None
    readings: pa.Table | None = None
    chunks: pa.Table | None = None
    scores: pa.Table | None = None
    sketches: pa.Table | None = None
    sums: pa.Table | None = None
    large: SampleFile | None = None

    @property
    def rows(self) -> int:
        """How many samples there are."""
        return self.large.rows if self.large is not None else self.samples.num_rows

    def whole(self) -> Recording:
        """With all samples in memory. Raises RecordingError or UsageError, as `open` does."""
        if self.large is None:
            return self
        samples = _foreign_samples(self.large.path) if not self.meta else _own_samples(self.folder)
        return dataclasses.replace(self, samples=samples, large=None)

    def bounds(self, column: str) -> tuple[int, int] | None:
        """The least and the greatest number in a column of the samples, at next to no cost; None where that is not
        known. Raises RecordingError.
        """
        if self.large is not None:
            return self.large.bounds(column)
        low, high = pc.min_max(self.samples[column]).as_py().values()
        return None if low is None else (low, high)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The samples piece by piece, with those of `columns` that are there. Raises RecordingError."""
        if self.large is not None:
            yield from self.large.batches(columns)
        else:
            yield from self.samples.select(columns).to_batches(max_chunksize=BATCH_ROWS)

    @classmethod
    def open(cls, path: Path | str, *, most: int | None = None) -> Recording:
        """A run folder (sealed or not, finished or killed), a Parquet file with the required columns, a file of
        sketches beside one of their sums, or a file of another tool that holds both arms (see
        `harness.recording.importers`). A Parquet file of more than `most` samples is left on disk, as `large`.

        Raises UsageError where the path is not a recording, and RecordingError where a run's own file is
        damaged; each is one line that names the file and the column.
        """
        path = Path(path)
        if path.is_file() and not _is_parquet(path):
            samples, meta = importers.both_arms(path)
            return cls(folder=path.parent, meta=meta, samples=samples)
        if path.is_file() and is_sketches(path):
            sketches, sums = read_sketches(path)
            return cls(path.parent, {}, SAMPLES.empty_table(), sketches=sketches, sums=sums)
        if path.is_file():
            large = _large(path, most)
            return cls(path.parent, {}, SAMPLES.empty_table() if large else _foreign_samples(path), large=large)
        if not path.is_dir():
            raise UsageError(f"{path}: no such file or folder")
        return cls._open_folder(path, most)

    @classmethod
    def of_runs(cls, baseline: Path, candidate: Path) -> Recording:
        """Two files of any format, one an arm: made at the same time, or one after the other. Raises UsageError."""
        samples, meta = importers.two_runs(baseline, candidate)
        return cls(folder=candidate.parent, meta=meta, samples=samples)

    @classmethod
    def _open_folder(cls, folder: Path, most: int | None) -> Recording:
        meta = read_meta(folder)
        sealed, streams = parquet_path(folder, "samples"), stream_parts(folder, "samples")
        sketches, sums = (None, None) if sealed.exists() or streams else folder_sketches(folder)
        if not meta and not sealed.exists() and not streams and sketches is None:
            raise UsageError(f"{folder}: is not a recording: it has neither {META_NAME} nor samples.parquet")
        large = _large(sealed, most) if sealed.exists() and not streams else None
        if large is not None:
            samples = SAMPLES.empty_table()
        elif not meta and sealed.exists():
            samples = _foreign_samples(sealed)
        else:
            samples = _own_samples(folder)
        return cls(
            folder=folder,
            meta=meta,
            samples=samples,
            outputs=read_table(folder, "outputs"),
            readings=read_table(folder, "readings"),
            chunks=read_table(folder, "chunks"),
            scores=read_table(folder, "scores"),
            sketches=sketches,
            sums=sums,
            large=large,
        )


def read_meta(folder: Path) -> dict[str, Any]:
    """run.json of a run folder, {} if none. RecordingError if it is damaged, UsageError if it is too new."""
    path = folder / META_NAME
    try:
        meta = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise RecordingError(f"{path}:{error.lineno}:{error.colno}: is not JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path}: is not JSON: it is not UTF-8 text") from error
    if not isinstance(meta, dict):
        raise RecordingError(f"{path}: expected an object, found {type(meta).__name__}")
    version = meta.get("format")
    if not isinstance(version, int) or version < 1:
        raise RecordingError(f"{path}: format: expected a number, found {version!r}")
    if version > FORMAT_VERSION:
        raise UsageError(f"{path}: has format {version}; this triton-canary reads up to {FORMAT_VERSION}")
    return meta


def stage_records(meta: Mapping[str, Any]) -> tuple[StageRecord, ...]:
    """The stages that ran, as run.json lists them; () if none. Raises RecordingError naming the key."""
    records = []
    for index, entry in enumerate(_entries(meta, "stages")):
        key = f"stages.{index}"
        plan = _build(StagePlan, entry.get("plan"), f"{key}.plan")
        rest = {name: value for name, value in entry.items() if name != "plan"}
        records.append(_build(StageRecord, {"plan": plan, **rest}, key))
    return tuple(records)


def stage_plans(meta: Mapping[str, Any]) -> tuple[StagePlan, ...]:
    """All stages of the run's plan, also those that never began; () where run.json does not list them."""
    return tuple(_build(StagePlan, entry, f"plans.{i}") for i, entry in enumerate(_entries(meta, "plans")))


def gates(meta: Mapping[str, Any]) -> tuple[Gate, ...]:
    """The gates of the run, as run.json lists them; () if none. Raises RecordingError naming the key."""
    return tuple(_build(Gate, entry, f"gates.{i}") for i, entry in enumerate(_entries(meta, "gates")))


def _entries(meta: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = meta.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RecordingError(f"{META_NAME}: {key}: expected a list of objects")
    return entries


def _build(kind: type[Any], entry: Any, key: str) -> Any:
    """A dataclass from a JSON object. Unknown keys pass: a later release may write more."""
    if not isinstance(entry, Mapping):
        raise RecordingError(f"{META_NAME}: {key}: expected an object")
    known = {field.name: entry[field.name] for field in dataclasses.fields(kind) if field.name in entry}
    try:
        return kind(**known)
    except TypeError:
        fields = dataclasses.fields(kind)
        needed = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
        missing = [name for name in needed if name not in known]
        raise RecordingError(f"{META_NAME}: {key}: {', '.join(missing)} is missing") from None


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _foreign_samples(path: Path) -> pa.Table:
    """Somebody else's samples: what is wrong with them is wrong input, not a damaged run."""
    try:
        samples = conform(read_parquet(path), SAMPLES, path, required=REQUIRED_SAMPLE_COLUMNS)
        _check_words(samples, path)
    except RecordingError as error:
        raise UsageError(str(error)) from error
    return samples


def _own_samples(folder: Path) -> pa.Table:
    """Of a run; one that was killed before its first sample is a recording of nothing."""
    table = read_table(folder, "samples")
    samples = SAMPLES.empty_table() if table is None else table
    _check_words(samples, parquet_path(folder, "samples"))
    return samples


def _large(path: Path, most: int | None) -> SampleFile | None:
    """A file of more than `most` samples; None if it is not, or no whole file: reading it says what is wrong."""
    if most is None:
        return None
    try:
        file = SampleFile.open(path)
    except RecordingError:
        return None
    return file if file.rows > most else None


def _check_words(samples: pa.Table, path: Path) -> None:
    for column, words in (("arm", get_args(ArmName)), ("status", get_args(Status))):
        unknown = pc.invert(pc.is_in(samples[column], value_set=pa.array(words)))
        row = cast(int, pc.index(unknown, True).as_py())
        if row >= 0:
            found = samples[column][row].as_py()
            raise RecordingError(
                f"{path}: column {column}: row {row}: expected one of {', '.join(words)}, found {found!r}"
            )
