"""Damaged files, hanging decoders and slow disks: isolated reads and the quarantine."""
