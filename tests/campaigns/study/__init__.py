"""Campaign: how often the judge is wrong, and what it finds, in simulated worlds whose truth is known."""
