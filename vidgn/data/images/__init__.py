"""Images as data, for task=image."""
