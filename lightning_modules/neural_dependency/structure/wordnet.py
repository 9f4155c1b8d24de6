"""Path similarity of ImageNet's categories in WordNet, from the file of hyponyms that ImageNet distributes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError

_WANTED = "wordnet.is_a.txt, as ImageNet distributes it: a line 'parent child' of wnids for each hyponym"


def path_similarity(wnids: Sequence[str], is_a: str | Path) -> NDArray[np.float64]:
    """Return 1 / (1 + steps) for the shortest way over a common ancestor, [K, K]; 0 where there is none.

    Args:
        wnids: such as n02123045, of length K.
        is_a: the file `wordnet.is_a.txt`.

    Raises:
        UserError: in one line, if it is not there or a category is unknown.
    """
    parents = read_hyponyms(Path(is_a))
    above = [_ancestors(wnid, parents) for wnid in wnids]
    found = np.zeros((len(wnids), len(wnids)))
    for i, first in enumerate(above):
        for j in range(i + 1):
            second = above[j]
            steps = [first[key] + second[key] for key in first.keys() & second.keys()]
            found[i, j] = found[j, i] = 1 / (1 + min(steps)) if steps else 0.0
    return found


def read_hyponyms(path: Path) -> dict[str, list[str]]:
    """Return the parents of every synset of the file.

    Raises:
        UserError: in one line, if it is not there or of another form.
    """
    if not path.is_file():
        raise UserError(f"model.wordnet: no {path}; expected there: {_WANTED}")
    parents: dict[str, list[str]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2:
            raise UserError(f"{path}, line {number}: {line[:40]!r} is not 'parent child'")
        parents.setdefault(words[0], [])
        parents.setdefault(words[1], []).append(words[0])
    return parents


def _ancestors(wnid: str, parents: dict[str, list[str]]) -> dict[str, int]:
    """Return every ancestor of a synset, itself too, with the fewest steps up to it."""
    if wnid not in parents:
        raise UserError(f"{wnid} is no synset of the file of hyponyms")
    steps, level = {wnid: 0}, [wnid]
    while level:
        level = [parent for child in level for parent in parents[child] if parent not in steps]
        depth = max(steps.values()) + 1
        steps |= dict.fromkeys(level, depth)
    return steps
