"""Scores of videos: computed in groups of one size, collected from all ranks, and the figures that follow."""
