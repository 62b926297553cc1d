"""Norms that came after the paper, for small batches or without statistics."""
