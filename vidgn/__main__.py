"""`python -m vidgn` is `vidgn`."""

from vidgn.tools.cli import main

if __name__ == "__main__":
    main()
