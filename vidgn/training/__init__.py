"""Train a net: the run, its dry run, its replay."""
