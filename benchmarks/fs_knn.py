"""FS-KNN scoring against scikit-learn's nearest neighbours: time and agreement, in one process on the same arrays.

The score is 1 - s5(x, train), what FS-KNN needs: 10,000 test samples, 50,000 training samples, 512 features. Run with
`python benchmarks/fs_knn.py`; `--repeats` and the sizes can be set.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lightning_modules.uosr.scores.feature_scores import Knn

K = 5


def ours(train: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return 1 - s5 by the chunked search of this project."""
    return Knn(torch.from_numpy(train), K)(torch.from_numpy(queries)).numpy()


def sklearn(train: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return 1 - s5 by scikit-learn's brute-force cosine search, on all cores."""
    search = NearestNeighbors(algorithm="brute", metric="cosine", n_neighbors=K, n_jobs=-1).fit(train)
    return search.kneighbors(queries)[0][:, -1]


def timed(score: Callable[[np.ndarray, np.ndarray], np.ndarray], *arrays: np.ndarray) -> tuple[float, np.ndarray]:
    """Return seconds of one call, fit included, and its values."""
    start = time.perf_counter()
    values = score(*arrays)
    return time.perf_counter() - start, values


def clustered(rng: np.random.Generator, centres: np.ndarray, count: int) -> np.ndarray:
    """Return features around class centres, non-negative like those behind a ReLU."""
    rows = centres[rng.integers(len(centres), size=count)] + rng.standard_normal((count, centres.shape[1]))
    return np.maximum(rows, 0).astype(np.float32)


def main() -> None:
    """Measure, one after the other in turns, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=512)
    sizes = parser.parse_args()
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((100, sizes.width))
    train, queries = clustered(rng, centres, sizes.train), clustered(rng, centres, sizes.queries)
    seconds: dict[str, list[float]] = {"ours": [], "sklearn": []}
    for repeat in range(sizes.repeats):
        one, mine = timed(ours, train, queries)
        other, theirs = timed(sklearn, train, queries)
        seconds["ours"].append(one)
        seconds["sklearn"].append(other)
        print(f"repeat {repeat}: ours {one:.2f} s, scikit-learn {other:.2f} s, ratio {other / one:.2f}", flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(
        f"{sizes.queries} x {sizes.train} x {sizes.width}, {torch.get_num_threads()} threads of {os.cpu_count()} cores"
    )
    print(f"median: ours {medians['ours']:.2f} s, scikit-learn {medians['sklearn']:.2f} s")
    print(
        f"ratio of medians {medians['sklearn'] / medians['ours']:.2f}, max difference {np.abs(mine - theirs).max():.1e}"
    )


if __name__ == "__main__":
    main()
