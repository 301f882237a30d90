"""Judging from counts in bins: sketches, and recordings too large to be held value by value.

A stage is then its requests counted by arm, cell of due time and bin (`counts`), made from the files that workers ship
(`tables`) or in one pass over samples (`passing`). `view.CountedView` stands for the stage in the same gates and checks
that judge samples. What counts cannot tell is "no data", never a pass.
"""
