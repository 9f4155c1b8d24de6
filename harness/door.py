"""What happens behind `python run.py`: the shelf, the check of every word, then Hydra with its launchers."""

import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from harness import claim, claim_modes
from harness.check import check_words
from harness.compose import CONF, compose_words, parse, plain, variants
from harness.errors import BadInputError, tell
from harness.identity import digest
from harness.job import Job, Outcome

# Flags of Hydra's that print and do nothing; `=` or a following word may give them a value.
_PRINTING = {"--help", "-h", "--hydra-help", "--version", "--info", "-i", "--cfg", "-c", "--shell-completion", "-sc"}
_WITH_VALUE = {"--cfg", "-c", "--package", "-p", "--info", "-i", "--config-name", "-cn", "--config-dir", "-cd"}
_MULTIRUN = {"--multirun", "-m"}


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return flags (with their values) and override words."""
    flags, words, takes_value = [], [], False
    for argument in arguments:
        if argument.startswith("-"):
            flags.append(argument)
            takes_value = argument in _WITH_VALUE
        elif takes_value and "=" not in argument:
            flags.append(argument)
            takes_value = False
        else:
            words.append(argument)
            takes_value = False
    return flags, words


def main(arguments: list[str]) -> int:
    """Do what the command line asks.

    Returns:
        The exit code: 0, or 1 for a failed run, 2 for bad input, 143 for a run stopped on request.
    """
    # Our launcher files bear the names of the plugins' schemas on purpose: they are checked against them.
    warnings.filterwarnings("ignore", message="(?s).*is validated against ConfigStore schema.*")
    try:
        return _answer(*_split(arguments)) if arguments else _shelf()
    except BadInputError as error:
        return tell(error.lines)


def _shelf() -> int:
    from harness.shelf import show_shelf

    return show_shelf()


def _answer(flags: list[str], words: list[str]) -> int:
    if any(flag.split("=")[0] in _PRINTING for flag in flags):
        # Hydra prints, but the words are looked at first: its own complaints are long.
        for variant in variants(parse(words)):
            compose_words(variant)
        return _hydra(flags, words)
    if claim_modes.looks_at_results(words):
        return claim_modes.answer(words)
    if "mode=sample" in words:
        from harness import sample

        return sample.answer(words)
    if claim.name_of(words):
        return _sweep(flags, words, claim.check_claim(words))
    configs = check_words(words)
    if _MULTIRUN & set(flags):
        return _sweep(flags, words, configs[0])
    if any(override.is_sweep_override() for override in parse(words)):
        raise BadInputError("command line: several values for one key: add -m to run them all")
    return _hydra(flags, words)


_outcomes: list[Outcome] = []
_swept_by: int | None = None


class _StoppedError(SystemExit):
    """Passes through Hydra, which catches exceptions of a job but no request to exit."""


def _task(config: DictConfig) -> None:
    """Run one composed config; Hydra calls this once, or once a run in whatever process its launcher chose."""
    from hydra.core.hydra_config import HydraConfig

    from harness.life import live

    hydra: Any = HydraConfig.get()
    words, values = list(hydra.overrides.task), plain(config)
    group, claimed = os.environ.get("QUIRE_SWEEP"), values.pop("claim", None)
    arm = claim.arm_of(words, claimed["arms"]) if claimed else None
    if claimed and arm is None:
        # The grid of the swept values has cells that no arm asks for.
        return
    outcome = live(Job(values, str(hydra.runtime.choices["experiment"]), words, group, arm))
    if outcome.lines and group:
        tell(outcome.lines)
    _outcomes.append(outcome)
    if group:
        from harness.sweep import note_outcome

        note_outcome(Path(hydra.sweep.dir), int(hydra.job.num), outcome)
        if outcome.status == "preempted" and os.getpid() == _swept_by:
            # Who stops the one process of a sweep means all of it.
            raise _StoppedError


def _hydra(flags: list[str], words: list[str]) -> int:
    import hydra

    sys.argv = [sys.argv[0], *words, *flags]
    _outcomes.clear()
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_task)()
    except HydraException as error:
        raise BadInputError(str(error)) from None
    if not _outcomes:
        return 0
    tell(_outcomes[0].lines)
    return _outcomes[0].code


def _sweep(flags: list[str], words: list[str], config: DictConfig) -> int:
    from harness.sweep import begin, end

    claimed = claim.name_of(words)
    swept = [*words, *(claim.axes(words) if claimed else [])]
    if claimed:
        group = claim.claim_folder(config, claimed, words).name
    else:
        group = f"{OmegaConf.select(config, 'hydra.runtime.choices.experiment')}-{digest(' '.join(sorted(words)))[:8]}"
    os.environ["QUIRE_SWEEP"] = group
    folder = Path(str(config.runs)) / ".sweeps" / group
    begin(folder)
    global _swept_by  # noqa: PLW0603 - Hydra leaves no other way to its task
    _swept_by = os.getpid()
    with suppress(_StoppedError):
        _hydra(flags, words)
    code = end(folder, [str(o.get_key_element()) for o in parse(swept) if o.is_sweep_override()])
    if claimed and config.mode in {"fit", "test"}:
        from harness.claim_result import conclude

        conclude(words, plain(config))
    return code
