"""Load weights from published files, image nets and own checkpoints, and write them for others."""

from vidgn.models.weights.load import LoadReport, load_weights

__all__ = ["LoadReport", "load_weights"]
