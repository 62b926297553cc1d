"""Training on a person's own videos: options that follow from the data, and a classifier fitted in one pass."""
