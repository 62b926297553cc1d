"""The command `vidgn`."""
