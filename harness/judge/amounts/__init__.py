"""Rules on what an arm gets through and what that takes: throughput, goodput, memory, energy."""
