"""How long it takes, what can be told, and how often the judge was wrong on this rig."""
