"""Scorers: how good answers are, from 0 (wrong) to 1 (right). They run user code, so nothing here is pure."""

from harness.scoring.scorer import Case, Scorer, ScorerFailed, ScorerSpec, make

__all__ = ["Case", "Scorer", "ScorerFailed", "ScorerSpec", "make"]
