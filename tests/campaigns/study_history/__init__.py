"""Campaign: what a history of runs tells that is not so, and what it finds, in simulated histories of known truth."""
