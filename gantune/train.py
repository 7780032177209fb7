"""`python -m gantune.train`, which a launcher can start several times: see [`gantune.cli.train`]."""

import sys

from gantune.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
