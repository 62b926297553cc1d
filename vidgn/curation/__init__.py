"""Check and prepare the files of a data set."""
