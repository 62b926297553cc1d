"""Lists of videos: where each lies and which class it has."""
