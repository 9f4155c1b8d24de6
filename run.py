"""The door of Quire: `python run.py experiment=NAME [key=value ...]`; alone, it prints the shelf of experiments."""

import sys

from harness.door import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
