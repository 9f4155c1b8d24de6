"""Miniatures of the data sets of few-shot action recognition: real video files and lists in their real layouts."""

import av
import numpy as np

CODECS = {".mp4": "mpeg4", ".avi": "mpeg4", ".webm": "libvpx"}
PREFIX = {"fit": "train", "val": "val", "test": "test"}
# How a published list names clip c of class k of a split, and where the file is below the root.
LAYOUTS = {
    "hmdb51": lambda split, k, c: (f"videos/act_{split}_{k}/clip_{c}.avi",) * 2,
    "ucf101": lambda split, k, c: (f"videos/Act{split}{k}/v_Act{split}{k}_g{c:02d}_c01.avi",) * 2,
    "k100": lambda split, k, c: (
        f"act {split} {k}/id_{k}{c}_000010_000020.mp4",
        f"{'train_256' if split == 'fit' else 'val_256'}/act {split} {k}/id_{k}{c}_000010_000020.mp4",
    ),
    "ssv2": lambda split, k, c: (
        f"{list(PREFIX).index(split)}{k:02d}{c}",
        f"videos/{list(PREFIX).index(split)}{k:02d}{c}{'.mp4' if c % 2 else '.webm'}",
    ),
}
SEPARATORS = {"ssv2": "/"}


FOLDERS = {"hmdb51": [""], "ucf101": [""], "k100": ["train_256", "val_256"], "ssv2": ["videos"]}


def write_video(path, count, side=32, value=None):
    """Write a video whose k-th frame is grey of value 8 k (or all of one value)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix], rate=12)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 1_000_000
        for k in range(count):
            pixels = np.full((side, side, 3), 8 * k if value is None else value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def miniature(root, kind, clips=8, classes=5):
    """Write three splits of a few classes in the layout of a set, and return the options that say where they are."""
    lists, names = {}, {}
    for split, prefix in PREFIX.items():
        lines = []
        for k in range(classes):
            for c in range(clips):
                listed, file = LAYOUTS[kind](split, k, c)
                write_video(root / file, 40 if kind == "k100" else 20, value=40 * (k % 6) + 20)
                lines.append(f"{prefix}{k}{SEPARATORS.get(kind, '//')}{listed}")
        lists[split], names[split] = str(root / f"{split}.txt"), str(root / f"{split}_names.txt")
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
        words = "Pushing [something] from {left}" if kind == "ssv2" else "act"
        (root / f"{split}_names.txt").write_text("".join(f"{words} {split} {k}\n" for k in range(classes)))
    return {"root": str(root), "lists": lists, "names": names}
