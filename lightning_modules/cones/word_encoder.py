"""The text encoder of the small text-to-image model: words of a fixed vocabulary through one Transformer layer."""

from collections.abc import Sequence
from typing import TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from common.errors import UserError, suggestion
from common.ranges import PositiveInt

_PADDING, _START, _FIRST_WORD = 0, 1, 2
_HEAD_WIDTH = 16


class WordOptions(TypedDict):
    """The words, the width of their tokens (a multiple of 16), and how many a prompt may have."""

    vocabulary: list[str]
    width: PositiveInt
    context: PositiveInt


class WordEncoder(nn.Module):
    """Embeddings of words and positions, and one pre-norm Transformer layer.

    Args:
        options: see `WordOptions`.
    """

    def __init__(self, options: WordOptions) -> None:
        super().__init__()
        width, self.context = options["width"], options["context"]
        if width < _HEAD_WIDTH or width % _HEAD_WIDTH:
            raise UserError(f"model.words.width is {width}, should be a multiple of {_HEAD_WIDTH}")
        self.words = {word: number for number, word in enumerate(options["vocabulary"], start=_FIRST_WORD)}
        self.embedding = nn.Embedding(len(self.words) + _FIRST_WORD, width)
        self.position = nn.Parameter(0.02 * torch.randn(self.context + 1, width))
        heads = width // _HEAD_WIDTH
        self.layer = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(width)

    def tokenize(self, prompts: Sequence[str]) -> Int[Tensor, "b n"]:
        """Return the ids of prompts: a start, the words, padding to the longest.

        Raises:
            UserError: for a word that is not in the vocabulary, with a suggestion, or a prompt that is too long.
        """
        rows = []
        for prompt in prompts:
            words = prompt.split()
            unknown = next((word for word in words if word not in self.words), None)
            if unknown is not None:
                raise UserError(
                    f"prompt {prompt!r}: no word {unknown!r} in the vocabulary{suggestion(unknown, self.words)}"
                )
            if len(words) > self.context:
                raise UserError(f"prompt {prompt!r}: has {len(words)} words, the model reads {self.context}")
            rows.append([_START, *(self.words[word] for word in words)])
        ids = torch.full((len(rows), max(map(len, rows))), _PADDING)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
        return ids.to(self.position.device)

    def forward(self, ids: Int[Tensor, "b n"]) -> tuple[Float[Tensor, "b n d"], Bool[Tensor, "b n"]]:
        """Return tokens, and which of them are not padding."""
        mask = ids != _PADDING
        tokens = self.embedding(ids) + self.position[: ids.shape[1]]
        return self.norm(self.layer(tokens, src_key_padding_mask=~mask)), mask
