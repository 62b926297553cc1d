"""Tables of videos with columns of any names: which videos, which part of each, and which split."""
