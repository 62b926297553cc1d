"""Score a checkpoint on many views per video and write down what came out."""
