"""Timing of candidates that take turns in one run, and how it is shown."""

import time
from collections.abc import Callable

import torch


def seconds(work: dict[str, Callable[[], object]], repeats: int, device: str = "cpu") -> dict[str, float]:
    """Return the least time of each piece of work; they take turns, after one turn that is not counted."""
    best = dict.fromkeys(work, float("inf"))
    for turn in range(repeats + 1):
        for name, do in work.items():
            start = time.perf_counter()
            do()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def show(title: str, times: dict[str, float], ours: str, unit: float = 1e3, words: str = "ms") -> None:
    """Print times and how many times longer than ours each is."""
    print(f"\n{title}")
    for name, value in times.items():
        print(f"  {name:<44} {value * unit:10.2f} {words}   {value / times[ours]:7.2f} x ours")
