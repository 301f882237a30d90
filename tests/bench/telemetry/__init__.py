"""What it costs to read a GPU, and how steadily it is read: the harness's own process, and peers beside it."""
