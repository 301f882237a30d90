"""What only a GPU can tell: the pieces that a bare machine needs, the proof of the kernels, and the campaign."""
