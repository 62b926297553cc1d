"""Passports: what a scan found out about the files of a data set."""
