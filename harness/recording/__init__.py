"""The files of a run: written so that a kill loses nothing acknowledged, read with exact columns."""

from harness.recording.blocks import Rows
from harness.recording.observations import OBSERVATIONS, is_operation, read_observations, write_observations
from harness.recording.parts import GPUS, NO_WORKER, PartsTail, stream_parts, stream_path
from harness.recording.recording import META_NAME, Recording, gates, read_meta, stage_plans, stage_records
from harness.recording.resketch import complete_sketches, sketch
from harness.recording.schema import BLOCK_NS, FORMAT_VERSION, SCHEMAS
from harness.recording.sealing import changed_files, checksums, parquet_path, read_table, seal
from harness.recording.sketcher import Sketcher
from harness.recording.sketches import histogram, merge, quantile
from harness.recording.stream import StreamWriter, Tail, read_batches

__all__ = [
    "BLOCK_NS",
    "FORMAT_VERSION",
    "GPUS",
    "META_NAME",
    "NO_WORKER",
    "OBSERVATIONS",
    "SCHEMAS",
    "PartsTail",
    "Recording",
    "Rows",
    "Sketcher",
    "StreamWriter",
    "Tail",
    "changed_files",
    "checksums",
    "complete_sketches",
    "gates",
    "histogram",
    "is_operation",
    "merge",
    "parquet_path",
    "quantile",
    "read_batches",
    "read_meta",
    "read_observations",
    "read_table",
    "seal",
    "sketch",
    "stage_plans",
    "stage_records",
    "stream_parts",
    "stream_path",
    "write_observations",
]
