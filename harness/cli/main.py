"""What `python run.py` does: the listing, the check of every override, then Hydra with its launchers."""

import os
import warnings

from omegaconf import DictConfig

from common.errors import UserError, print_errors
from harness.claims import claim_runs
from harness.claims.overview import ALL_CLAIMS
from harness.cli import result_modes
from harness.cli.status import show_status
from harness.cli.sweep import MULTIRUN_FLAGS, end_sweep, sweep
from harness.cli.task import QUEUED, call_hydra, launcher_of
from harness.config.compose import plain
from harness.config.load import load, load_checked
from harness.config.overrides import parse, variants
from harness.core import slurm
from harness.run.finished import finished
from harness.sweeps import slurm_array

# Flags of Hydra's that print and do nothing; `=` or a following argument may give them a value.
_PRINTING = {"--help", "-h", "--hydra-help", "--version", "--info", "-i", "--cfg", "-c", "--shell-completion", "-sc"}
_WITH_VALUE = {"--cfg", "-c", "--package", "-p", "--info", "-i", "--config-name", "-cn", "--config-dir", "-cd"}


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return flags (with their values) and overrides."""
    flags, overrides, takes_value = [], [], False
    for argument in arguments:
        if argument.startswith("-"):
            flags.append(argument)
            takes_value = argument in _WITH_VALUE
        elif takes_value and "=" not in argument:
            flags.append(argument)
            takes_value = False
        else:
            overrides.append(argument)
            takes_value = False
    return flags, overrides


def main(arguments: list[str]) -> int:
    """Do what the command line asks.

    Returns:
        The exit code: 0, or 1 for a failed run, 2 for bad input, 143 for a run stopped on request.
    """
    # Our launcher files bear the names of the plugins' schemas on purpose: they are checked against them.
    warnings.filterwarnings("ignore", message="(?s).*is validated against ConfigStore schema.*")
    try:
        return _answer(*split(arguments)) if arguments else _list()
    except UserError as error:
        return print_errors(error.lines)


def _list() -> int:
    from harness.cli.listing import show_listing

    return show_listing()


def _answer(flags: list[str], overrides: list[str]) -> int:
    if any(flag.split("=")[0] in _PRINTING for flag in flags):
        # Hydra prints, but the overrides are checked first: its own complaints are long.
        for variant in variants(parse(overrides)):
            load(variant)
        return call_hydra(flags, overrides)
    if (code := _inspect(overrides)) is not None:
        return code
    if slurm_array.RUN in os.environ:
        # A run of a submitted sweep, whose overrides were checked when it was submitted.
        slurm.listen()
        return call_hydra(flags, [*overrides, "hydra.mode=RUN"])
    if slurm_array.END in os.environ:
        return end_sweep(overrides, load_checked(overrides))
    if claim_runs.name_of(overrides) == ALL_CLAIMS:
        raise UserError(f"claim={ALL_CLAIMS}: mode=report shows all claims in one table; they are run one by one")
    if claim_runs.name_of(overrides):
        return sweep(flags, overrides, claim_runs.check_claim(overrides))
    config = load_checked(overrides)
    if MULTIRUN_FLAGS & set(flags):
        return sweep(flags, overrides, config)
    if launcher_of(config.hydra) in QUEUED and config.mode in {"fit", "test"}:
        return sweep(["-m", *flags], overrides, config)
    return _run_one(flags, overrides, config)


def _run_one(flags: list[str], overrides: list[str], config: DictConfig) -> int:
    if any(override.is_sweep_override() for override in parse(overrides)):
        raise UserError("command line: several values for one key: add -m to run them all")
    before = finished(plain(config), str(config.hydra.runtime.choices["experiment"]), overrides, None)
    if before:
        return before.code
    # What a check says is of the machine that the launcher leads to.
    return call_hydra(flags, overrides if config.mode == "check" else slurm_array.without_launcher(overrides))


def _inspect(overrides: list[str]) -> int | None:
    """Do what is asked of existing results, without a run; returns None if a run is asked for."""
    if "mode=status" in overrides:
        return show_status([override for override in overrides if override != "mode=status"])
    if result_modes.inspects_results(overrides):
        return result_modes.answer(overrides)
    if "mode=sample" in overrides:
        from harness.cli import sample

        return sample.answer(overrides)
    return None
