"""Split lists of few-shot action recognition: `train12//path/of/clip.mp4`, `train12/id`, or a CSV (clip_fsar §2.8)."""

import csv
import re
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import NamedTuple

_LINE = re.compile(r"^\D*(\d+)//?(.+)$")


class Listed(NamedTuple):
    """Clips of a split: their names as listed, the number of the class of each, and the names of all classes."""

    clips: list[str]
    labels: list[int]
    names: list[str]


def read_names(path: Path) -> list[str]:
    """Return class names, a line each.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: if a name stands twice, or there is none.
    """
    names = [line.strip() for line in _text(path).splitlines() if line.strip()]
    twice = {name for name in names if names.count(name) > 1}
    if twice or not names:
        raise ValueError(
            f"{path}: {f'{min(twice)} stands twice' if twice else 'no names'}; expected a class name a line"
        )
    return names


def read_split(path: Path, names: list[str]) -> Listed:
    """Return what a list names.

    Args:
        path: a text file with lines such as `train12//brush_hair/a.avi` or `train12/74225`, where the number says which
            of the names; or a .csv with the columns `path` and `class`, a number or a name.
        names: names of the split's classes.

    Raises:
        ValueError: if a line is none of these, or its class is not among the names.
    """
    rows = _from_csv(path, names) if path.suffix == ".csv" else _from_lines(path)
    for clip, label in rows:
        if not 0 <= label < len(names):
            raise ValueError(f"{path}: {clip} has class {label}, there are {len(names)} names, counted from 0")
    if not rows:
        raise ValueError(f"{path} lists no clips")
    clip, times = Counter(clip for clip, _ in rows).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{path} lists {clip} {times} times")
    return Listed([clip for clip, _ in rows], [label for _, label in rows], names)


def _text(path: Path) -> str:
    try:
        # Some editors put a mark before the first letter.
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8 (byte {error.start}): save it in that encoding") from None


def _from_lines(path: Path) -> list[tuple[str, int]]:
    rows = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        found = _LINE.match(line.strip())
        if found is None:
            raise ValueError(f"{path}, line {number}: '{line[:60]}'; expected lines such as train12//path/of/clip.mp4")
        rows.append((found[2], int(found[1])))
    return rows


def _from_csv(path: Path, names: list[str]) -> list[tuple[str, int]]:
    reader = csv.DictReader(StringIO(_text(path)))
    if not {"path", "class"} <= set(reader.fieldnames or []):
        raise ValueError(f"{path} has columns {reader.fieldnames}; expected path and class")
    rows = [(row["path"], row["class"]) for row in reader]
    known = {name: number for number, name in enumerate(names)}
    for clip, label in rows:
        if label not in known and not (label or "").isdecimal():
            raise ValueError(f"{path}: {clip} has class '{label}', which is neither a name nor a number")
    return [(clip, known[label] if label in known else int(label)) for clip, label in rows]
