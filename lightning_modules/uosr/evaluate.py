"""Print the UOSR table of score files, the official ones or ours.

`python -m lightning_modules.uosr.evaluate FILE.npz ...`
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lightning_modules.uosr.score_file import LABELS, SCALES, UCF_HMDB_OVERLAP, ScoreFile, read_score_file
from lightning_modules.uosr.table import printed_name, uosr_table
from lightning_modules.uosr.unified_metrics import mean_over_tries, unified_metrics

Rows = dict[str, dict[str, float]]
_WIDTH = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the files, print the table, write the numbers if asked; return 0, or 2 for a file that cannot be used."""
    options = _parser().parse_args(arguments)
    rows: Rows = {}
    notes: list[str] = []
    try:
        for path in options.files:
            rows |= _evaluate(path, options, notes)
        if options.out:
            options.out.write_text(json.dumps(rows, indent=2) + "\n")
    except (ValueError, OSError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    width = max(_WIDTH, Console().width)
    console = Console(width=width, highlight=False, markup=False)
    console.print(uosr_table(rows))
    for note in notes:
        console.print(note)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.npz", help="plain or few-shot score file")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE.npz", help="plain score file with a few-shot file's labels"
    )
    parser.add_argument(
        "--drop-ood-labels",
        type=_numbers,
        default=[],
        metavar="N,N,...",
        help="leave out unknown samples of these classes"
        f" (HMDB51 beside UCF101: {','.join(map(str, UCF_HMDB_OVERLAP))})",
    )
    parser.add_argument(
        "--transductive", action="store_true", help="few-shot: scale by the test samples, as the official code does"
    )
    parser.add_argument("--alpha", type=float, default=50.0, help="few-shot: steepness of FS-KNNS's gate (50)")
    parser.add_argument("--beta", type=float, default=1.0, help="few-shot: 1 for images (default), 0.5 for videos")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write all metrics here too")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _evaluate(path: Path, options: argparse.Namespace, notes: list[str]) -> Rows:
    """Return the rows of one file, named by the file (and score), and add to the notes what cannot be computed."""
    file = read_score_file(path)
    if file.few_shot and options.labels:
        labels = read_score_file(options.labels).arrays
        file = _with_labels(file, {name: labels[name] for name in LABELS if name in labels})
    if options.drop_ood_labels:
        before = file.arrays["msp_ood" if file.few_shot else "ood_unctt"].shape[-1]
        file = file.without_ood_labels(options.drop_ood_labels)
        after = file.arrays["ood_label"].shape[-1]
        notes.append(f"{path.name}: left out {before - after} of {before} unknown samples, {after} remain.")
    if not file.few_shot:
        return {path.stem: unified_metrics(file.arrays["ind_unctt"], file.correct(), file.arrays["ood_unctt"])}
    return _few_shot_rows(file, options, notes)


def _with_labels(file: ScoreFile, labels: dict) -> ScoreFile:
    """Return a few-shot file with the labels of a plain one of the same test set."""
    for name, column in labels.items():
        here = file.arrays["d_ood" if name.startswith("ood") else "d_in"].shape[-1]
        if column.shape[-1] != here:
            raise ValueError(f"{file.path}: {here} samples, but --labels has {column.shape[-1]} of {name}")
    return file._replace(arrays=file.arrays | labels)


def _few_shot_rows(file: ScoreFile, options: argparse.Namespace, notes: list[str]) -> Rows:
    """Return FS-KNN, its fusions and the softmax baseline, averaged over tries."""
    # Torch takes seconds to import, and a plain score file does without.
    from lightning_modules.uosr.scores.stored_few_shot import fused

    if not {"ind_pred", "ind_label"} <= set(file.arrays):
        raise ValueError(
            f"{file.path}: no ind_pred, ind_label: name a plain score file of the same test set by --labels"
        )
    known, ood = fused(file, alpha=options.alpha, beta=options.beta, transductive=options.transductive)
    name = file.path.name
    if "fs_knns" not in known:
        lacking = [key for key in SCALES if key not in file.arrays]
        notes.append(
            f"{name}: no {', '.join(lacking)}, so the fusions' softmax scale is unknown: FS-KNN+S, FS-KNN*S, SIRC "
            "and FS-KNNS need --transductive."
        )
    notes.append(f"{name}: KNN and SSD cannot be computed from a few-shot file, which has no features.")
    correct = file.correct()
    return {
        f"{file.path.stem}: {printed_name(score)}": mean_over_tries(known[score], correct, ood[score])
        for score in known
    }


if __name__ == "__main__":
    sys.exit(main())
