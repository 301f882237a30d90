"""Rules on times: at equal load on blocks, elsewhere against objectives."""
