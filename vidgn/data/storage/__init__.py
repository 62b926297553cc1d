"""Files that lie elsewhere: byte ranges of remote files, local copies, retries."""
