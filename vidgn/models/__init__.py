"""Video networks and the weights they start from."""
