"""Rewrite a net so that its norms, activations and convolutions take fewer passes over memory."""

from vidgn.models.fuse.rewrite import fuse

__all__ = ["fuse"]
