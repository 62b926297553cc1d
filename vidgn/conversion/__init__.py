"""Group-norm checkpoints from batch-norm weights: `vidgn convert-weights`."""

from vidgn.conversion.weights import ConvertedWeights, convert_weights

__all__ = ["ConvertedWeights", "convert_weights"]
