"""CLIP-FSAR's hot paths against what a user would pick instead, side by side in one run, as ratios.

OTAM by anti-diagonals against a loop over rows and columns (and against tslearn's soft-DTW, where it is
installed); test episodes with and without cached features; frames decoded by PyAV against torchcodec, where it is.
`python benchmarks/clip_fsar.py` takes two minutes on two cores.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.turns import seconds, show
from datamodules.formats.video import in_segments, read_clip
from harness.config.compose import plain
from harness.config.load import load
from lightning_modules.clip_fsar.alignment import otam
from lightning_modules.clip_fsar.evaluation import BATCH, Episodes, accuracies, bank_of, on_device
from lightning_modules.clip_fsar.module import CLIPFSAR


def by_rows(distances: Tensor, smoothness: float) -> Tensor:
    """Find OTAM's length cell by cell over a batch of matrices, row after row."""
    padded = functional.pad(distances, (1, 1))
    rows, columns = padded.shape[-2:]

    def nearest(*values: Tensor) -> Tensor:
        return -smoothness * torch.logsumexp(torch.stack(values) / -smoothness, dim=0)

    zero = torch.zeros_like(padded[..., 0, 0])
    above = list(padded[..., 0, :].cumsum(dim=-1).unbind(dim=-1))
    for row in range(1, rows):
        own = [zero]
        for m in range(1, columns):
            before = [above[m - 1], own[m - 1]]
            if m in (1, columns - 1):
                before.append(above[m])
            own.append(padded[..., row, m] + nearest(*before))
        above = own
    return above[-1]


def into_one_tensor(distances: Tensor, smoothness: float) -> Tensor:
    """Find the same by the recursion as it is written down: a table whose cells are assigned one after the other."""
    padded = functional.pad(distances, (1, 1))
    rows, columns = padded.shape[-2:]
    table = torch.zeros_like(padded)
    table[..., 0, :] = padded[..., 0, :].cumsum(dim=-1)
    for row in range(1, rows):
        for m in range(1, columns):
            before = [table[..., row - 1, m - 1], table[..., row, m - 1]]
            if m in (1, columns - 1):
                before.append(table[..., row - 1, m])
            nearest = -smoothness * torch.logsumexp(torch.stack(before) / -smoothness, dim=0)
            table[..., row, m] = padded[..., row, m] + nearest
    return table[..., -1, -1]


def alignment(repeats: int) -> None:
    """Compare forms of OTAM on the distances of a training episode, both directions, with gradients."""
    distances = torch.rand(25, 5, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    both = lambda form: lambda: (form(distances, 0.5) + form(distances.mT, 0.5)).sum().backward()  # noqa: E731
    with torch.no_grad():
        forms = torch.stack([form(distances, 0.5) for form in (otam, by_rows, into_one_tensor)])
    off = (forms - forms[0]).abs().max()
    assert off < 1e-5, off
    work: dict[str, Callable[[], object]] = {
        "ours": lambda: otam(torch.stack([distances, distances.mT]), 0.5).sum().backward(),
        "row by row, cells in a list": both(by_rows),
        "row by row, cells of one tensor": both(into_one_tensor),
    }
    try:
        from tslearn.metrics import SoftDTWLossPyTorch
    except ImportError:
        print("tslearn is not installed: pip install tslearn")
    else:
        loss = SoftDTWLossPyTorch(gamma=0.5)
        query, support = (torch.randn(125, 8, 64, requires_grad=True) for _ in range(2))
        work["tslearn's soft-DTW (another path, 125 pairs)"] = lambda: loss(query, support).sum().backward()
    show(
        f"OTAM of 25 x 5 matrices of 8 x 8 with gradients (largest difference {float(off):.0e})",
        seconds(work, repeats),
        "ours",
    )


def episodes(repeats: int, count: int) -> None:
    """Compare test episodes from cached features with episodes whose clips are looked at each time."""
    config = plain(load(["experiment=clip_fsar", "model.towers.weights=none"]))["model"]
    torch.manual_seed(0)
    module = CLIPFSAR(**{key: value for key, value in config.items() if not key.startswith("_")})
    module.configure_model()
    module.eval()
    from datamodules.actors import Actors

    data = Actors(eval_clips=30)
    clips = torch.stack([data.source("test")[k]["image"] for k in range(len(data.source("test")))])
    labels = np.array([int(data.source("test")[k]["label"]) for k in range(len(clips))])
    names = torch.randn(16, 64)
    drawn = data.episodes(labels, 1, count, 0)

    @torch.no_grad()
    def cached() -> None:
        bank = bank_of(module.episode_networks, torch.cat([module(part) for part in clips.split(64)]), names)
        for part in torch.arange(count).split(BATCH):
            accuracies(module.episode_networks, bank, on_device(drawn, part, torch.device("cpu")), 0.9)

    @torch.no_grad()
    def each() -> None:
        for k in range(count):
            one = on_device(drawn, torch.tensor([k]), torch.device("cpu"))
            chosen = torch.cat([one.support.flatten(), one.query.flatten()])
            own = Episodes(one.classes, *torch.arange(10).view(2, 1, 5, 1))
            own_bank = bank_of(module.episode_networks, module(clips[chosen]), names)
            accuracies(module.episode_networks, own_bank, own, 0.9)

    times = seconds({"features once": cached, "clips looked at in every episode": each}, repeats)
    show(f"{count} test episodes of {len(clips)} clips of 32 x 32", times, "features once")
    for name, value in times.items():
        print(f"  {name:<44} {count / value:10,.0f} episodes/s")


def decoding(repeats: int) -> None:
    """Compare decoders on 8 frames of a clip of 80."""
    try:
        import av
    except ImportError:
        print("PyAV is not installed: pip install 'quire[video]'")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
            rng = np.random.default_rng(0)
            still = rng.integers(0, 255, (256, 340, 3), np.uint8)
            for k in range(80):
                frame = av.VideoFrame.from_ndarray(np.roll(still, 3 * k, axis=1), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        work: dict[str, Callable[[], object]] = {
            "ours (PyAV)": lambda: read_clip(path, lambda n: in_segments(n, 8, random=False))
        }
        try:
            from torchcodec.decoders import VideoDecoder
        except (ImportError, RuntimeError):
            print("torchcodec is not installed: pip install torchcodec")
        else:
            places = in_segments(80, 8, random=False).tolist()
            work["torchcodec"] = lambda: VideoDecoder(str(path), seek_mode="approximate").get_frames_at(places)
        times = seconds(work, repeats)
        show("8 of 80 frames of 340 x 256, H.264", times, "ours (PyAV)")
        for name, value in times.items():
            print(f"  {name:<44} {8 / value:10,.0f} frames/s")


def main() -> None:
    """Run all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=1000)
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    alignment(given.repeats)
    episodes(max(1, given.repeats // 3), given.episodes)
    decoding(given.repeats)


if __name__ == "__main__":
    main()
