"""Which candidates are shut: those whose shrinking lowered the loss most, or those of a control (cones §2.5)."""

from collections.abc import Mapping
from typing import Annotated, Literal, TypedDict

import torch
from jaxtyping import Bool
from torch import Tensor

from common.errors import UserError
from common.ranges import Range
from lightning_modules.cones.concept_masks import ConceptMask, Update

Share = Annotated[float, Range(above=0, below=1)]
Criterion = Literal["neurons", "wrong_sign", "unsigned", "magnitude", "random"]


class SelectionOptions(TypedDict):
    """Which candidates are shut.

    `criterion`: "neurons" is the method; the others are controls: "wrong_sign" (whose shrinking raised the loss most),
    "unsigned" (largest effect of either sign), "magnitude" (largest weights) and "random", which has the method's count
    in every matrix. `by`: the `fraction` of all candidates, or those above `threshold`. Without a fraction, that of
    `fractions` with the lowest held-out loss is taken.
    """

    criterion: Criterion
    by: Literal["quantile", "threshold"]
    fraction: Share | None
    fractions: list[Share]
    threshold: float | None


def check_selection(options: SelectionOptions) -> None:
    """Raise UserError for options that select nothing."""
    if options["by"] == "quantile" and options["fraction"] is None and not options["fractions"]:
        raise UserError("model.selection: fraction is null and fractions has none, so nothing would be shut")
    if options["by"] == "threshold" and options["threshold"] is None:
        raise UserError("model.selection.by is threshold, and threshold is null; it has no published value")


def _keys(masks: Mapping[str, ConceptMask], update: Update) -> tuple[Tensor, Tensor]:
    """Return what candidates are ranked by, the largest first, and what breaks ties, flat."""
    statistic = torch.cat([mask.statistic.flatten() for mask in masks.values()])
    if update in ("multiplicative", "static"):
        return statistic, statistic
    # Entries that were driven to 0 are many, so the statistic orders these.
    return torch.cat([1 - mask.mask.detach().flatten() for mask in masks.values()]), statistic


def _ranked(first: Tensor, second: Tensor) -> Tensor:
    """Return the order by `first`, the largest first, equal ones by `second`."""
    by_second = second.argsort(descending=True, stable=True)
    return by_second[first[by_second].argsort(descending=True, stable=True)]


def select(
    masks: Mapping[str, ConceptMask],
    weights: Mapping[str, Tensor],
    update: Update,
    options: SelectionOptions,
    *,
    fraction: float | None = None,
    seed: int = 0,
) -> dict[str, Bool[Tensor, "o i"]]:
    """Return for every matrix which entries are shut.

    Args:
        masks: the masks after the search.
        weights: theta_0.
        update: the update of the search.
        options: see `SelectionOptions`.
        fraction: the fraction of all candidates that is shut; needed for a quantile.
        seed: seed of the random control.

    Raises:
        UserError: if a threshold shuts nothing or everything.
    """
    first, second = _keys(masks, update)
    criterion = options["criterion"]
    if criterion == "wrong_sign":
        first, second = -second, -second
    elif criterion == "unsigned":
        first = second = second.abs()
    elif criterion == "magnitude":
        first = second = torch.cat([weight.detach().abs().flatten().float() for weight in weights.values()])
    shut = torch.zeros_like(first, dtype=torch.bool)
    if options["by"] == "threshold":
        shut = first >= float(options["threshold"] or 0)
        if not shut.any() or shut.all():
            share = "nothing" if not shut.any() else "everything"
            raise UserError(
                f"model.selection.threshold = {options['threshold']} shuts {share}: values are"
                f" {float(first.min()):.3g} to {float(first.max()):.3g}"
            )
    else:
        assert fraction is not None
        shut[_ranked(first, second)[: max(1, round(fraction * len(shut)))]] = True
    parts = shut.split([mask.mask.numel() for mask in masks.values()])
    chosen = {name: part.view_as(mask.mask) for part, (name, mask) in zip(parts, masks.items(), strict=True)}
    return _shuffled(chosen, seed) if criterion == "random" else chosen


def _shuffled(shut: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Return as many entries in every matrix, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: each.flatten()[torch.randperm(each.numel(), generator=generator).to(each.device)].view_as(each)
        for name, each in shut.items()
    }
