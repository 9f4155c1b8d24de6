"""The runs of a sweep over given values: those that are finished are noted, the others handed to Hydra's launcher.

Hydra's own sweeper would compose every cell of the grid before the first run begins.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import run_and_report
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from common.errors import UserError
from harness.config.claim_schema import arm_of
from harness.config.compose import Composed, composed, own_hydra
from harness.config.overrides import parse
from harness.core.ranks import rank
from harness.run.finished import finished
from harness.sweeps.outcomes import note_outcome, numbered

# The overrides of each run by its number, with its config.
Cells = dict[int, tuple[list[str], Composed]]


def cells(overrides: list[str], config: DictConfig) -> Cells:
    """Return the runs of a sweep, of a claim those of its arms, numbered as in the whole grid.

    Args:
        overrides: the command line's overrides.
        config: the composed config of one run.

    Raises:
        UserError: if one cannot be composed.
    """
    params: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    task = [text for text, parsed in zip(overrides, parse(overrides), strict=True) if not parsed.is_hydra_override()]
    swept = parse([*(f"{key}={value}" for key, value in (params["params"] or {}).items()), *task])
    try:
        (grid,) = BasicSweeper.split_arguments(swept, None)
    except HydraException as error:
        raise UserError(str(error)) from None
    claim = OmegaConf.select(config, "claim")
    return {
        number: (cell, composed(cell))
        for number, cell in enumerate(grid)
        if claim is None or arm_of(cell, claim.arms) is not None
    }


def launch(runs: Cells, overrides: list[str], task: Callable[[DictConfig], Any], folder: Path) -> None:
    """Launch the runs that are not finished, and note the others in the sweep's folder.

    Args:
        runs: all runs of the sweep.
        overrides: the command line's overrides.
        task: what Hydra is to call with the config of each run.
        folder: the sweep's folder.
    """
    missing = [number for number, (own, config) in runs.items() if not _noted(number, own, config, folder)]
    if missing:
        run_and_report(lambda: _launch([numbered(runs[number][0], number) for number in missing], overrides, task))


def _noted(number: int, overrides: list[str], config: Composed, folder: Path) -> bool:
    try:
        outcome = finished(config.values, config.experiment, overrides, folder.name)
    except UserError:
        # The run itself says so, and is one of those that the table counts.
        return False
    if outcome is not None and rank() == 0:
        note_outcome(folder, number, outcome)
    return outcome is not None


def _launch(runs: list[list[str]], overrides: list[str], task: Callable[[DictConfig], Any]) -> None:
    with own_hydra():
        hydra: Any = GlobalHydra.instance().hydra
        config = hydra.compose_config("config", [*overrides, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN, True)
        callbacks = Callbacks(config)
        callbacks.on_multirun_start(config=config, config_name="config")
        context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
        launcher = Plugins.instance().instantiate_launcher(context, task, config)
        for first, batch in _batches(runs, config.hydra.sweeper.max_batch_size):
            for result in launcher.launch(batch, initial_job_idx=first):
                # Raises what Hydra caught.
                _ = result.return_value
        callbacks.on_multirun_end(config=config, config_name="config")


def _batches(runs: list[list[str]], size: int | None) -> Iterator[tuple[int, list[list[str]]]]:
    step = size or len(runs)
    for first in range(0, len(runs), step):
        yield first, runs[first : first + step]
