"""The files of a run: written so that a kill loses nothing acknowledged, read with exact columns."""

from harness.recording.files import (
    atomic_write,
    changed_files,
    checksums,
    parquet_path,
    read_table,
    seal,
    stream_path,
)
from harness.recording.observations import OBSERVATIONS, is_operation, read_observations, write_observations
from harness.recording.recording import META_NAME, Recording, gates, read_meta, stage_records
from harness.recording.schema import FORMAT_VERSION, SCHEMAS
from harness.recording.stream import StreamWriter, Tail, read_batches

__all__ = [
    "FORMAT_VERSION",
    "META_NAME",
    "OBSERVATIONS",
    "SCHEMAS",
    "Recording",
    "StreamWriter",
    "Tail",
    "atomic_write",
    "changed_files",
    "checksums",
    "gates",
    "is_operation",
    "parquet_path",
    "read_batches",
    "read_meta",
    "read_observations",
    "read_table",
    "seal",
    "stage_records",
    "stream_path",
    "write_observations",
]
