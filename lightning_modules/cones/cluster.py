"""A cluster of concept neurons as a file: integer indices of the weights to shut, for one base (cones §2.6)."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from common.errors import UserError
from common.files import atomic_write
from common.hashing import digest

FILE_NAME = "cluster.safetensors"
"""What a run's cluster is called in its folder."""
_FORMAT = "quire concept cluster 1"


def base_hash(weights: Mapping[str, Tensor]) -> str:
    """Return a hash of the candidate weights, by which a cluster knows its base."""
    parts = [part for name, weight in sorted(weights.items()) for part in (name.encode(), _bytes(weight))]
    return digest(b"".join(parts))


def _bytes(weight: Tensor) -> bytes:
    return weight.detach().float().cpu().contiguous().numpy().tobytes()


@dataclass(frozen=True)
class ConceptCluster:
    """The weights to shut, as sorted flat indices int32 of every matrix, by the matrix's name in the U-Net.

    Attributes:
        indices: of each matrix that has any.
        base: hash of the base, see `base_hash`.
        values: weights in place of zeros at the indices, after tuning; float32, or empty.
        about: what it is: subject, prompts, fraction, update.
    """

    indices: Mapping[str, Int[Tensor, " n"]]
    base: str
    values: Mapping[str, Tensor] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, shut: Mapping[str, Bool[Tensor, "o i"]], base: str, about: Mapping[str, str]) -> "ConceptCluster":
        """Return the cluster of the entries that are shut."""
        indices = {name: each.flatten().nonzero().flatten().to(torch.int32).cpu() for name, each in shut.items()}
        return cls({name: each for name, each in indices.items() if len(each)}, base, about=about)

    def __len__(self) -> int:
        """Return the number of shut weights."""
        return sum(map(len, self.indices.values()))

    def __or__(self, other: "ConceptCluster") -> "ConceptCluster":
        """Return the cluster that shuts what either shuts; tuned values do not add up and are left out.

        Raises:
            UserError: if the bases differ.
        """
        return self._combined(other, lambda a, b: torch.unique(torch.cat([a, b])))

    def __sub__(self, other: "ConceptCluster") -> "ConceptCluster":
        """Return the cluster without what the other shuts.

        Raises:
            UserError: if the bases differ.
        """
        return self._combined(other, lambda a, b: a[~torch.isin(a, b)])

    def _combined(self, other: "ConceptCluster", rule: Callable[[Tensor, Tensor], Tensor]) -> "ConceptCluster":
        if self.base != other.base:
            raise UserError(f"the clusters are of two bases, {self.base} and {other.base}")
        empty = torch.zeros(0, dtype=torch.int32)
        names = sorted({*self.indices, *other.indices})
        combined = {name: rule(self.indices.get(name, empty), other.indices.get(name, empty)) for name in names}
        return ConceptCluster({name: each for name, each in combined.items() if len(each)}, self.base)

    def jaccard(self, other: "ConceptCluster") -> float:
        """Return the size of the intersection over that of the union."""
        both = len(self | other)
        return (len(self) + len(other) - both) / both if both else 1.0

    def hash(self) -> str:
        """Return a hash of the indices."""
        parts = [
            part for name, each in sorted(self.indices.items()) for part in (name.encode(), each.numpy().tobytes())
        ]
        return digest(b"".join([self.base.encode(), *parts]))

    def stored_bytes(self) -> int:
        """Return how many bytes indices and values take in a file, its header aside."""
        return 4 * (len(self) + sum(map(len, self.values.values())))

    # Files.

    def save(self, path: Path) -> None:
        """Write a safetensors file: int32 indices, tuned values if any, the base's hash and what the cluster is."""
        tensors = {f"indices/{name}": each for name, each in self.indices.items()}
        tensors |= {f"values/{name}": each.float().cpu() for name, each in self.values.items()}
        metadata = {"format": _FORMAT, "base": self.base, "about": json.dumps(dict(self.about))}
        with atomic_write(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)

    @classmethod
    def load(cls, path: Path) -> "ConceptCluster":
        """Read a cluster.

        Raises:
            UserError: if the file is missing or holds none.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path}: no cluster of concept neurons can be read: {error}") from None
        if metadata.get("format") != _FORMAT:
            raise UserError(f"{path}: is a safetensors file, but holds no cluster of concept neurons")
        parts: dict[str, dict[str, Tensor]] = {"indices": {}, "values": {}}
        for name, tensor in tensors.items():
            kind, _, matrix = name.partition("/")
            parts[kind][matrix] = tensor
        return cls(parts["indices"], metadata["base"], parts["values"], json.loads(metadata["about"]))

    # Application.

    def require_base(self, layers: Mapping[str, nn.Linear]) -> None:
        """Raise UserError unless the layers are those of the cluster's base."""
        known = base_hash({name: layer.weight for name, layer in layers.items()})
        if known != self.base:
            raise UserError(f"the cluster is of the base {self.base}, this one is {known}: clusters fit one base only")
        unknown = sorted(set(self.indices) - set(layers))
        if unknown:
            raise UserError(f"the cluster shuts weights of {unknown[0]}, which is no candidate here: see model.scope")

    def write_into(self, layers: Mapping[str, nn.Linear]) -> None:
        """Shut the weights of a U-Net's layers for good, or set them to the tuned values."""
        for name, each in self.indices.items():
            weight = layers[name].weight
            flat = weight.detach().view(-1)
            values = self.values.get(name, torch.zeros(len(each)))
            flat[each.long().to(flat.device)] = values.to(flat)

    @contextmanager
    def applied(self, layers: Mapping[str, nn.Linear]) -> Iterator[None]:
        """Shut the weights within a `with` block; after it they are what they were, bit for bit."""
        before = {name: layers[name].weight.detach().clone() for name in self.indices}
        try:
            self.write_into(layers)
            yield
        finally:
            with torch.no_grad():
                for name, weight in before.items():
                    layers[name].weight.copy_(weight)


def clusters_of(places: Sequence[Path], layers: Mapping[str, nn.Linear]) -> ConceptCluster:
    """Return the union of clusters that files or run folders hold.

    Raises:
        UserError: if one is missing, broken, or of another base than the layers.
    """
    union: ConceptCluster | None = None
    for place in places:
        cluster = ConceptCluster.load(_file_of(place))
        cluster.require_base(layers)
        union = cluster if union is None else union | cluster
    assert union is not None
    return union


def _file_of(place: Path) -> Path:
    """Return the file of a cluster, of a run folder, or of the run that a checkpoint is of."""
    if place.suffix == ".ckpt":
        return place.parent.parent / FILE_NAME
    return place / FILE_NAME if place.is_dir() else place
