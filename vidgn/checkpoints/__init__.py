"""Checkpoints: tensors, and the description from which net and test are built again."""
