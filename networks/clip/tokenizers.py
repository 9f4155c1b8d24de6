"""Texts as token ids: open_clip's tokenizers, and the words of the mini-CLIP."""

from collections.abc import Sequence

import open_clip
import torch
from jaxtyping import Int
from torch import Tensor

from common.errors import UserError
from networks.clip.mini import MINI, MiniOptions


def tokenize(name: str, mini: MiniOptions, texts: Sequence[str]) -> Int[Tensor, "n l"]:
    """Return the token ids of texts.

    Args:
        name: `mini`, or a CLIP of open_clip.
        mini: the mini-CLIP's sizes and vocabulary.
        texts: n texts.

    Raises:
        UserError: if the mini-CLIP does not know a word, or a text is too long for it.
    """
    if name != MINI:
        return open_clip.get_tokenizer(name)(list(texts))
    known = {word: number for number, word in enumerate(mini["vocabulary"], start=1)}
    tokens = torch.zeros(len(texts), mini["context_length"], dtype=torch.int64)
    for row, text in zip(tokens, texts, strict=True):
        words = text.split()
        unknown = [word for word in words if word not in known]
        if unknown:
            raise UserError(f"the mini-CLIP knows no '{unknown[0]}' (in '{text}'); it knows {' '.join(known)}")
        if len(words) >= len(row):
            raise UserError(f"'{text}' has {len(words)} words, the mini-CLIP reads {len(row) - 1}")
        # The feature is taken at the largest number, which is the end's.
        row[: len(words) + 1] = torch.tensor([known[word] for word in words] + [len(known) + 1])
    return tokens
