"""An episode as film strips with what was said of each query, and the soft path by which two clips are aligned."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_modules.clip_fsar.alignment import AlignmentOptions, frame_distances, otam
from lightning_modules.clip_fsar.episode_data import EpisodeData
from lightning_modules.clip_fsar.episode_prediction import EpisodeNetworks
from lightning_modules.clip_fsar.evaluation import on_device, predict_drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RIGHT, _WRONG = "#1b6e3c", "#b00020"


def strip(clip: Float[Tensor, "t 3 h w"]) -> Float[Tensor, "h tw 3"]:
    """Return the frames of a clip side by side, in 0..1."""
    clip = clip.float()
    low, high = clip.min(), clip.max()
    return ((clip - low) / (high - low).clamp_min(1e-6)).permute(2, 0, 3, 1).flatten(1, 2).cpu()


def episode_figure(
    support: Sequence[Float[Tensor, "t 3 h w"]],
    queries: Sequence[Float[Tensor, "t 3 h w"]],
    names: Sequence[str],
    predicted: Sequence[int],
) -> "Figure":
    """Return support clips beside the queries of the same classes; above a query stands what it was taken for.

    Args:
        support: the first support clip of each of n classes.
        queries: a query of each.
        names: names of the classes.
        predicted: number of the class that each query was taken for.
    """
    from matplotlib.figure import Figure

    wide = support[0].shape[0] * support[0].shape[-1] / support[0].shape[-2]
    figure = Figure(figsize=(1.5 * wide, 1.15 * len(names) + 0.2))
    axes = figure.subplots(len(names), 2, squeeze=False)
    for place, (left, right) in enumerate(axes):
        left.imshow(strip(support[place]))
        left.set_title(f"support: {names[place]}", fontsize=9, loc="left")
        right.imshow(strip(queries[place]))
        is_right = predicted[place] == place
        told = "right" if is_right else f"taken for {names[predicted[place]]}"
        right.set_title(f"query: {told}", fontsize=9, loc="left", color=_RIGHT if is_right else _WRONG)
        for axis in (left, right):
            axis.set_xticks([])
            axis.set_yticks([])
    figure.tight_layout(pad=0.4)
    return figure


def soft_path(distances: Float[Tensor, "t s"], smoothness: float) -> Float[Tensor, "t s"]:
    """Return how much of the soft shortest path runs through each cell: the derivative of OTAM's length by it."""
    # A test may run in inference mode, whose tensors take no gradient; a copy does.
    with torch.inference_mode(mode=False), torch.enable_grad():
        grown = distances.detach().float().clone().requires_grad_()
        (share,) = torch.autograd.grad(otam(grown, smoothness), grown)
    return share


def alignment_figure(
    distances: Float[Tensor, "t s"],
    smoothness: float,
    query: Float[Tensor, "t 3 h w"],
    support: Float[Tensor, "s 3 h w"],
    title: str,
) -> "Figure":
    """Return a heat map of the soft path, with the query's frames down the side and the support's along the top."""
    from matplotlib.figure import Figure

    share = soft_path(distances, smoothness).cpu()
    rows, columns = share.shape
    figure = Figure(figsize=(0.7 * (columns + 2), 0.7 * (rows + 2)))
    grid = figure.add_gridspec(2, 2, width_ratios=[1, columns], height_ratios=[1, rows], wspace=0.02, hspace=0.02)
    above, beside, middle = (figure.add_subplot(grid[place]) for place in ((0, 1), (1, 0), (1, 1)))
    above.imshow(strip(support), aspect="auto")
    beside.imshow(strip(query.mT).transpose(0, 1), aspect="auto")
    middle.imshow(share, cmap="viridis", vmin=0, aspect="auto")
    for axis in (above, beside, middle):
        axis.set_xticks([])
        axis.set_yticks([])
    above.set_title(title, fontsize=9, loc="left")
    beside.set_ylabel("query", fontsize=8)
    middle.set_xlabel("support", fontsize=8)
    return figure


def first_episode_pictures(
    networks: EpisodeNetworks,
    columns: Mapping[str, Tensor],
    names: Float[Tensor, "c d"] | None,
    data: EpisodeData,
    seed: int,
    alignment: AlignmentOptions,
) -> list[tuple[str, "Figure", str]]:
    """Return name, picture and caption of the first 1-shot test episode, and of how its first query is aligned.

    Args:
        networks: see `EpisodeNetworks`.
        columns: `frames` [v, t, d], `label` [v] and `index` [v] of all test clips.
        names: text features of the test classes, or None.
        data: draws the episode, and has its clips and the names of its classes.
        seed: seed of the episodes.
        alignment: options of the metric; only OTAM aligns.
    """
    episode = on_device(data.episodes(columns["label"].numpy(), 1, 1, seed), torch.arange(1), torch.device("cpu"))
    predicted = predict_drawn(networks, columns["frames"].to(networks.scale), names, episode)
    source, class_names = data.source("test"), data.class_names("test")
    support, queries = (
        [source[int(columns["index"][k])]["image"] for k in part.flatten()] for part in (episode.support, episode.query)
    )
    words = [class_names[k] for k in episode.classes[0]]
    taken_for = predicted.distances[0].argmin(dim=-1).tolist()
    caption = "the first 1-shot episode of the test: what each query was taken for"
    pictures = [("episode", episode_figure(support, queries, words, taken_for), caption)]
    if alignment["metric"] == "otam":
        off = frame_distances(predicted.queries[:, :1], predicted.prototypes[:, :1])[0, 0, 0]
        title = f"{words[0]}: where the query's frames lie in the prototype's"
        figure = alignment_figure(off, alignment["smoothness"], queries[0], support[0], title)
        pictures.append(("alignment", figure, "the soft shortest path of the first query, from its own side"))
    return pictures
