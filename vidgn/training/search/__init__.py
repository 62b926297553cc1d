"""Search for good options with Optuna: `vidgn search`."""
