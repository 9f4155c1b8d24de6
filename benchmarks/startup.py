"""Start-up of the door against the usual script that imports torch and Lightning at its top, side by side.

`python benchmarks/startup.py [ROUNDS]` prints medians in seconds and ratios.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
USUAL = [sys.executable, "-c", "import hydra, torch, pytorch_lightning"]
DOOR = {
    "python run.py": [],
    "python run.py --help": ["--help"],
    "python run.py experiment=uosr --cfg job": ["experiment=uosr", "--cfg", "job"],
    "python run.py experiment=uosr seeed=1 (a typo)": ["experiment=uosr", "seeed=1"],
}


def seconds(command: list[str]) -> float:
    """Return the wall time of a command."""
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    return time.perf_counter() - began


def main(rounds: int = 7) -> None:
    """Time all commands in turn, round by round."""
    commands = {"import hydra, torch, pytorch_lightning": USUAL} | {
        name: [sys.executable, "run.py", *words] for name, words in DOOR.items()
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(seconds(command))
    usual = statistics.median(next(iter(times.values())))
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name:50} {median:6.2f} s   {usual / median:5.1f}x faster than the imports alone")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
