"""From a data set to batches: sampler, background processes, loader."""
