"""`python -m gantune`: see [`gantune.cli`]."""

import sys

from gantune.cli import main

if __name__ == "__main__":
    sys.exit(main())
