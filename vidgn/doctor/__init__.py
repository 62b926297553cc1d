"""Checks of the installation: versions, decoders, norms against torch."""
