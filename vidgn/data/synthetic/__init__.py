"""Data sets that are drawn: motions (videos) and exposures (images)."""
