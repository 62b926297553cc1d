"""`python -m vidgn` is `vidgn`."""

from importlib import import_module

if __name__ == "__main__":
    import_module("vidgn.cli.main").run()  # by name: the package proper knows nothing of its tools
