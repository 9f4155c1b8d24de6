"""The start of a shuffled epoch over many samples: ours, and torch's samplers for one process and for two.

`python benchmarks/loading.py [SAMPLES]` prints seconds to the first batch and the memory that it takes, each in a
process of its own, in turn.
"""

import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEASURE = """
import resource, sys, time
import torch
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler
from datamodules.loading import BatchPlan
size = int(sys.argv[1])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, began = peak(), time.perf_counter()
{}
print(time.perf_counter() - began, peak() - before)
"""
OURS = 'next(iter(BatchPlan({"": size}, {"": 256}, shuffle=True, drop_last=True)))'
WORK = {
    "ours": OURS,
    "torch: RandomSampler": "next(iter(BatchSampler(RandomSampler(range(size)), 256, True)))",
    "torch: DistributedSampler, 2 ranks": "next(iter(BatchSampler(DistributedSampler(range(size), 2, 0), 128, True)))",
}


def main(size: int = 10_000_000, rounds: int = 5) -> None:
    """Measure all in turn."""
    found: dict[str, list[list[float]]] = {name: [] for name in WORK}
    for _ in range(rounds):
        for name, work in WORK.items():
            done = subprocess.run(
                [sys.executable, "-c", MEASURE.format(work), str(size)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            found[name].append([float(value) for value in done.stdout.split()])
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    print(f"{size:,} samples, shuffled: until the first batch")
    for name, (seconds, megabytes) in medians.items():
        ratios = f"{seconds / medians['ours'][0]:5.1f} and {megabytes / medians['ours'][1]:5.1f} x ours"
        print(f"  {name:36} {seconds:6.2f} s {megabytes:8.0f} MB   {ratios}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
