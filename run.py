"""The entry point of Quire: `python run.py experiment=NAME [key=value ...]`; alone, it lists the experiments."""

import sys

from harness.core import process

if __name__ == "__main__":
    process.prepare()
    from harness.cli.main import main

    process.leave(main(sys.argv[1:]))
