"""What the harness expects of the objects that a config names: modules, data, and loggers that can do more."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn


class TrainedTuner(Protocol):
    """A tuner that is attached to a module."""

    def num_trainable(self) -> int:
        """Return the number of trained parameters, the head's excluded."""


class ExperimentModule(Protocol):
    """A LightningModule with what `lightning_modules.base.BasePaper` has besides Lightning's own."""

    tuner: TrainedTuner | None
    can_be_sharded: bool

    @property
    def has_training(self) -> bool:
        """Whether there is anything to train; if not, a run is a test."""

    @property
    def has_unused_parameters(self) -> bool:
        """Whether a step may leave trainable parameters without a gradient."""

    @property
    def optimizer_states(self) -> int:
        """Numbers that the optimizer keeps for each trained parameter."""

    @property
    def normalization(self) -> tuple[Sequence[float], Sequence[float]] | None:
        """Mean and deviation by channel that the data normalize images with, where nothing else is asked for."""

    def test_splits(self, data: Any) -> Sequence[str]:
        """Return the splits that the data load for a test."""

    @property
    def hparams(self) -> Any:
        """The constructor's arguments."""

    def configure_model(self) -> None:
        """Build the networks."""

    def attach_tuner(self) -> None:
        """Attach the tuner that the config names, if any."""

    def prepare(self, *, load: bool) -> None:
        """Build the networks, load the weights that the config names if asked to, attach the tuner."""

    def start_checks(self, data: Any) -> Iterator[Callable[[], object]]:
        """Yield what has to go well before the first batch, each a call that raises UserError if it does not."""

    def start_from(self, weights: "Mapping[str, Tensor]") -> None:
        """Start from a checkpoint's weights."""

    def cost_step(self, batch: dict[str, Any]) -> None:
        """Do one step's forward and backward pass without a trainer."""

    def generate(self, options: Any) -> "Iterator[Tensor]":
        """Yield generated images float [b, c, h, w] in -1..1."""

    def meshes(self, options: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Yield vertices, triangles and colors of generated surfaces."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build what the checkpoint's tensors go into."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Load weights."""

    def train(self, mode: bool = True) -> Any:
        """Set the mode."""

    def eval(self) -> Any:
        """Set the mode of evaluation."""

    def parameters(self) -> "Iterator[nn.Parameter]":
        """Yield the parameters."""

    def buffers(self) -> "Iterator[Tensor]":
        """Yield the buffers."""


class ExperimentData(Protocol):
    """A LightningDataModule with what `datamodules.base.BaseDataModule` has besides Lightning's own."""

    def check(self) -> None:
        """Raise FileNotFoundError or UserError if the data are missing."""

    def check_test(self) -> None:
        """Raise as `check` does, for the test's data alone."""

    def train_dataloader(self) -> Any:
        """Return the loader of the training data."""

    def fingerprint(self) -> str:
        """Return a short text that changes when the data do."""

    def fake_batch(self, size: int) -> dict[str, Any]:
        """Return a training batch of empty samples, without reading any data."""


@runtime_checkable
class Rewindable(Protocol):
    """A logger whose rows after a resume point can be dropped."""

    def position(self) -> int:
        """Return how many bytes are written."""

    def cut_back(self, position: int) -> None:
        """Drop what was written after a position."""


@runtime_checkable
class Summarizing(Protocol):
    """A logger that keeps a run's final metrics apart from its rows."""

    def set_summary(self, metrics: Mapping[str, Any]) -> None:
        """Write the final metrics."""


@runtime_checkable
class Finishing(Protocol):
    """A logger that has to know when a run has ended, and how."""

    def finish(self, failed: bool = False) -> None:
        """Close the run."""


def missing_members(target: object, protocol: type) -> list[str]:
    """Return what an object lacks of a protocol."""
    names = {name for name in vars(protocol) if not name.startswith("_")} | set(protocol.__annotations__)
    own = getattr(target, "__dict__", {})
    return sorted(name for name in names if not hasattr(type(target), name) and name not in own)
