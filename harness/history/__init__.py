"""Series of runs: what changed, and when (pure), and apart from it their store."""
