"""The paper's contribution: prototypes that read the class name (§2.4 and §2.5).

One small Transformer looks at the frames of every clip. The frames of a support clip are joined by one more token, the
text feature of the class name; queries have no name.
"""

from typing import TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from common.ranges import NonNegativeInt, PositiveInt


class ContextOptions(TypedDict):
    """The Transformer over frames (§2.4): `depth` blocks (0: none) with layers of `hidden_dim`.

    `text_modulation`: whether prototypes read the class name: the paper's modulation. `average_shots_first`: whether
    shots are averaged before it, else after.
    """

    depth: NonNegativeInt
    hidden_dim: PositiveInt
    text_modulation: bool
    average_shots_first: bool


class Attention(nn.Module):
    """Attention over the frames of a clip, behind its own LayerNorm and beside a skip.

    Args:
        size: size d of frame features, a multiple of `heads`.
        heads: number of heads.
        dropout: dropout of the output.
    """

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(size)
        self.query, self.key, self.value = (nn.Linear(size, size, bias=False) for _ in range(3))
        self.out = nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return what every frame learns from all."""
        seen = self.norm(x)
        parts = (layer(seen).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in self._layers())
        found = functional.scaled_dot_product_attention(*parts)
        return x + self.dropout(self.out(found.transpose(1, 2).flatten(2)))

    def _layers(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.query, self.key, self.value


class TemporalBlock(nn.Module):
    """Attention, and two layers beside a skip; the layers have no LayerNorm of their own.

    Args:
        size: size d of frame features.
        heads: number of heads.
        hidden: width of the layers.
        dropout: dropout of the attention's output.
        hidden_dropout: dropout behind each of the layers.
    """

    def __init__(
        self, size: int, heads: int = 8, hidden: int = 2048, dropout: float = 0.2, hidden_dropout: float = 0.05
    ) -> None:
        super().__init__()
        self.attention = Attention(size, heads, dropout)
        self.layers = nn.Sequential(
            nn.Linear(size, hidden),
            nn.GELU(),
            nn.Dropout(hidden_dropout),
            nn.Linear(hidden, size),
            nn.Dropout(hidden_dropout),
        )

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return features of the same shape."""
        x = self.attention(x)
        return x + self.layers(x)


class TemporalTransformer(nn.Sequential):
    """Blocks without places of frames and without a norm at the end: order is left to the alignment.

    Args:
        size: size d of frame features.
        depth: number of blocks.
    """

    def __init__(self, size: int, depth: int = 1, hidden: int = 2048) -> None:
        super().__init__(*(TemporalBlock(size, hidden=hidden) for _ in range(depth)))


def clips(context: nn.Module, frames: Float[Tensor, "*b t d"]) -> Float[Tensor, "*b t d"]:
    """Return the features of clips without a name."""
    return context(frames.flatten(0, -3)).unflatten(0, frames.shape[:-2])


def named_clips(
    context: nn.Module, frames: Float[Tensor, "*b t d"], names: Float[Tensor, "*b d"]
) -> Float[Tensor, "*b t d"]:
    """Return the features of clips whose frames have seen the name; the name itself is left out."""
    tokens = torch.cat([frames, names[..., None, :].to(frames.dtype)], dim=-2)
    return clips(context, tokens)[..., : frames.shape[-2], :]


def prototypes(
    context: nn.Module,
    support: Float[Tensor, "b n k t d"],
    names: Float[Tensor, "b n d"] | None,
    *,
    average_shots_first: bool,
) -> Float[Tensor, "b n t d"]:
    """Return a prototype for each class of an episode.

    Args:
        context: the Transformer.
        support: frame features of the k clips of each of n classes.
        names: text features of the classes; None for prototypes that read no name.
        average_shots_first: whether frames are averaged over clips before the Transformer looks at them, else after.
    """
    frames = support.mean(dim=2, keepdim=True) if average_shots_first else support
    if names is None:
        return clips(context, frames).mean(dim=2)
    shown = names[:, :, None].expand(*frames.shape[:3], -1)
    return named_clips(context, frames, shown).mean(dim=2)
