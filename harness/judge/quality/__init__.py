"""Rules on what was answered, above what the baseline does to itself."""
