"""Few-shot scores from a few-shot score file, and the file's arrays from measured test sets."""

import numpy as np
import torch
from torch import Tensor

from lightning_modules.uosr.outputs import Outputs
from lightning_modules.uosr.score_file import SCALES, ScoreFile
from lightning_modules.uosr.scores.few_shot import FewShot, Measured
from lightning_modules.uosr.scores.fusion import Fusion, Range

Scores = dict[str, np.ndarray]


def fused(file: ScoreFile, *, alpha: float, beta: float, transductive: bool) -> tuple[Scores, Scores]:
    """Return the scores that a few-shot file allows, of known and of unknown samples, float64 [tries, samples].

    Those are `msp`, `fs_knn` and the fusions. Without `transductive` the fusions need the softmax uncertainty of
    training samples and references, which official files lack; then they are left out.
    """
    arrays = {name: torch.from_numpy(array).double() for name, array in file.arrays.items() if name[:2] in {"d_", "ms"}}
    tries = max(len(arrays[name]) for name in ("d_in", "d_ood", "d_train", "d_ood_fs"))
    wide = {name: np.broadcast_to(array, (tries, array.shape[-1])) for name, array in arrays.items()}
    at = {name: torch.from_numpy(array.copy()) for name, array in wide.items()}
    scales = ["msp_in", "msp_ood"] if transductive else [name for name in SCALES if name in at]
    d_seen = [at["d_train"], at["d_ood_fs"], *([at["d_in"], at["d_ood"]] if transductive else [])]
    usable = len(scales) == len(SCALES)
    u_range = Range.of(*(at[name] for name in (scales if usable else ["msp_in", "msp_ood"])))
    fusion = Fusion(at["d_train"], at["d_ood_fs"], Range.of(*d_seen), u_range, alpha, beta)

    def named(d: Tensor, msp: Tensor) -> Scores:
        scores = {"msp": msp} | fusion.scores(d, msp)
        kept = scores if usable else {name: scores[name] for name in ("msp", "fs_knn")}
        return {name: score.numpy() for name, score in kept.items()}

    return named(at["d_in"], at["msp_in"]), named(at["d_ood"], at["msp_ood"])


def few_shot_arrays(few_shot: FewShot, known: Outputs, ood: Outputs) -> dict[str, Tensor]:
    """Return what `write_score_file` keeps of a few-shot evaluation, labels and our own scales among it."""
    sides: list[Measured] = [few_shot.measure(known), few_shot.measure(ood)]
    return {
        "d_in": sides[0].d,
        "d_ood": sides[1].d,
        "d_train": few_shot.d_train,
        "d_ood_fs": few_shot.d_refs,
        "msp_in": sides[0].msp,
        "msp_ood": sides[1].msp,
        "msp_train": few_shot.msp_train,
        "msp_ood_fs": few_shot.msp_refs,
        "ind_pred": known.predictions(),
        "ind_label": known.labels,
        "ood_pred": ood.predictions(),
        "ood_label": ood.labels,
    }
