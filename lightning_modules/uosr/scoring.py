"""From the cached outputs of the test splits to every score, its metrics, its file, a table and a picture."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from common.findings import Findings, Table
from lightning_modules.uosr.histogram import uncertainty_histogram
from lightning_modules.uosr.outputs import Outputs
from lightning_modules.uosr.score_file import write_score_file
from lightning_modules.uosr.scores.few_shot import FewShot, FewShotOptions
from lightning_modules.uosr.scores.post_hoc import PostHoc, PostHocOptions
from lightning_modules.uosr.scores.stored_few_shot import few_shot_arrays
from lightning_modules.uosr.table import HEADER, printed_name, table_rows
from lightning_modules.uosr.unified_metrics import METRICS, mean_over_tries, unified_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scores = dict[str, Float[Tensor, " n"]]
Rows = dict[str, dict[str, float]]


def score_splits(
    splits: dict[str, Outputs],
    ood_names: list[str],
    *,
    head: tuple[Float[Tensor, "k d"], Float[Tensor, " k"]],
    own_score: str,
    post_hoc: PostHocOptions,
    few_shot: FewShotOptions,
    shots: list[int],
    reference_ood: str | None,
    folder: Path,
) -> Findings:
    """Return metrics, a table and a picture of every OoD set, and write a score file for each score.

    Args:
        splits: outputs of "train" and "known", of each OoD set, and of "references" where there are shots.
        ood_names: names of the OoD sets.
        head: weight and bias of the last linear layer.
        own_score: the score that the training objective proposes.
        post_hoc: constants of the post-hoc scores.
        few_shot: constants of the few-shot scores.
        shots: references per unknown class.
        reference_ood: the OoD set whose classes the references are of.
        folder: where `<ood>/<score>.npz` go.
    """
    known = splits["known"]
    fitted = PostHoc(splits["train"], *head, post_hoc)
    known_scores = _with_own(fitted.scores(known), known, own_score)
    findings = Findings({"test/acc": 100 * known.correct().double().mean().item()})
    for name in ood_names:
        ood = splits[name]
        ood_scores = _with_own(fitted.scores(ood), ood, own_score)
        rows = {key: unified_metrics(known_scores[key], known.correct(), ood_scores[key]) for key in known_scores}
        rows["msp_permuted"] = _with_errors_by_lot(known, known_scores["msp"], ood_scores["msp"])
        for key in known_scores:
            write_score_file(folder / name / f"{key}.npz", _plain_file(known, ood, known_scores[key], ood_scores[key]))
        if name == reference_ood:
            for count in shots:
                rows |= _few_shot_rows(splits, ood, few_shot, count, folder / name)
        for score, of in rows.items():
            findings.metrics |= {f"test/{name}/{score}/{metric}": of[metric] for metric in METRICS}
        findings.tables[f"uosr_{name}"] = Table(HEADER, table_rows(rows))
        picture = _picture(known, known_scores[own_score], ood_scores[own_score], name, own_score)
        findings.pictures[f"uncertainty_{name}"] = picture
    return findings


def _with_errors_by_lot(known: Outputs, known_score: Tensor, ood_score: Tensor) -> dict[str, float]:
    """Return the softmax score's metrics if wrong predictions were strewn over the known samples by lot.

    A control: as many samples are to be rejected, but those are not the uncertain ones.
    """
    right = known.correct()
    lot = torch.randperm(len(right), generator=torch.Generator().manual_seed(0))
    return unified_metrics(known_score, right[lot], ood_score)


def _with_own(scores: Scores, outputs: Outputs, own_score: str) -> Scores:
    """Put the score that only the network could compute first."""
    return {own_score: outputs.extra[own_score]} | scores if own_score in outputs.extra else scores


def _plain_file(known: Outputs, ood: Outputs, known_score: Tensor, ood_score: Tensor) -> dict[str, Tensor]:
    return {
        "ind_unctt": known_score,
        "ood_unctt": ood_score,
        "ind_pred": known.predictions(),
        "ood_pred": ood.predictions(),
        "ind_label": known.labels,
        "ood_label": ood.labels,
    }


def _few_shot_rows(splits: dict[str, Outputs], ood: Outputs, options: FewShotOptions, shots: int, folder: Path) -> Rows:
    """Return the metrics of the few-shot scores, averaged over tries, and write their parts in the official layout."""
    pool = splits["references"]
    least = int(pool.labels.unique(return_counts=True)[1].min())
    if least < shots:
        print(f"no {shots}-shot scores: a class has {least} reference{'s' * (least != 1)} only", flush=True)
        return {}
    known, fitted = splits["known"], FewShot(splits["train"], pool, shots, options)
    first, second = fitted.scores(known, ood)
    write_score_file(folder / f"few_shot_{shots}.npz", few_shot_arrays(fitted, known, ood))
    # Plain KNN has its row already.
    names = [name for name in first if name != "knn"]
    return {f"{name}_{shots}shot": mean_over_tries(first[name], known.correct(), second[name]) for name in names}


def _picture(known: Outputs, known_score: Tensor, ood_score: Tensor, ood: str, score: str) -> "Figure":
    right = known.correct()
    title = f"{printed_name(score)} ({ood})"
    return uncertainty_histogram(known_score[right], known_score[~right], ood_score, title)
