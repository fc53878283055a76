"""`python -m semcom`: the command where its script is not on the path."""

import sys

from semcom.cli import main

if __name__ == "__main__":
    sys.exit(main())
