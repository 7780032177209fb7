"""`python -m gantune.data`: see [`gantune.data.command`]."""

import sys

from gantune.data.command import main

if __name__ == "__main__":
    sys.exit(main())
