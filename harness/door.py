"""What happens behind `python run.py`: the shelf, the check of every word, then Hydra with its launchers."""

import os
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from harness import claim, claim_modes, detached, devices, fingerprint, multirun, slurm, sweep
from harness.check import check_words
from harness.compose import CONF, compose_words, parse, plain, variants
from harness.errors import BadInputError, tell
from harness.finished import finished
from harness.folder import read_json
from harness.identity import digest
from harness.job import Job, Outcome, rank

# Flags of Hydra's that print and do nothing; `=` or a following word may give them a value.
_PRINTING = {"--help", "-h", "--hydra-help", "--version", "--info", "-i", "--cfg", "-c", "--shell-completion", "-sc"}
_WITH_VALUE = {"--cfg", "-c", "--package", "-p", "--info", "-i", "--config-name", "-cn", "--config-dir", "-cd"}
_MULTIRUN = {"--multirun", "-m"}
# Launchers for which one run, too, is a sweep: it is asked for elsewhere.
_QUEUED = {detached.LAUNCHER, "submitit_slurm"}


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
    if (looked := _look(words)) is not None:
        return looked
    if detached.RUN in os.environ:
        # A run of a submitted sweep, whose words were looked at when it was.
        slurm.listen()
        return _hydra(flags, [*words, "hydra.mode=RUN"])
    if detached.END in os.environ:
        return _end(words, check_words(words))
    if claim.name_of(words):
        return _sweep(flags, words, claim.check_claim(words))
    config = check_words(words)
    if _MULTIRUN & set(flags):
        return _sweep(flags, words, config)
    if _launcher(config.hydra) in _QUEUED and config.mode in {"fit", "test"}:
        return _sweep(["-m", *flags], words, config)
    return _single(flags, words, config)


def _single(flags: list[str], words: list[str], config: DictConfig) -> int:
    if any(override.is_sweep_override() for override in parse(words)):
        raise BadInputError("command line: several values for one key: add -m to run them all")
    before = finished(plain(config), str(config.hydra.runtime.choices["experiment"]), words, None)
    return before.code if before else _hydra(flags, detached.without_launcher(words))


def _look(words: list[str]) -> int | None:
    """Do what is asked of what is there already, without a run; returns None if a run is asked for."""
    if "mode=status" in words:
        return sweep.show_status([word for word in words if word != "mode=status"])
    if claim_modes.looks_at_results(words):
        return claim_modes.answer(words)
    if "mode=sample" in words:
        from harness import sample

        return sample.answer(words)
    return None


_outcomes: list[Outcome] = []
_swept_by: int | None = None


class _StoppedError(SystemExit):
    """Passes through Hydra, which catches exceptions of a job but no request to exit."""


def _task(config: DictConfig) -> float | None:
    """Run one composed config; Hydra calls this once, or once a run in whatever process its launcher chose."""
    from hydra.core.hydra_config import HydraConfig

    from harness.life import live

    fingerprint.forget()
    hydra: Any = HydraConfig.get()
    words, values = list(hydra.overrides.task), plain(config)
    group, claimed = os.environ.get("QUIRE_SWEEP"), values.pop("claim", None)
    arm = claim.arm_of(words, claimed["arms"]) if claimed else None
    if claimed and arm is None:
        # The grid of the swept values has cells that no arm asks for.
        return None
    own: AbstractContextManager[None] = nullcontext()
    if group and _launcher(hydra) == "joblib" and values["hardware"]["devices"] == 1:
        own = devices.one(_folder(config, group), values["hardware"]["accelerator"])
    with own:
        outcome = live(Job(values, str(hydra.runtime.choices["experiment"]), words, group, arm))
    if outcome.status == "preempted" and slurm.wants_requeue():
        slurm.requeue(rank())
    if outcome.lines and group:
        tell(outcome.lines)
    _outcomes.append(outcome)
    if group and (rank() == 0 or outcome.status == "failed"):
        number = os.environ.get(detached.RUN) or hydra.job.num
        sweep.note_outcome(_folder(config, group), int(number), outcome)
        if outcome.status == "preempted" and os.getpid() == _swept_by:
            # Who stops the one process of a sweep means all of it.
            raise _StoppedError
    if outcome.status in {"failed", "bad input"}:
        slurm.end_step()
    return (
        (read_json(Path(outcome.folder) / "result.json") or {}).get("monitored") if outcome.status == "done" else None
    )


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
    if "QUIRE_SWEEP" not in os.environ:
        # Those of a sweep were told when they ended.
        tell(_outcomes[0].lines)
    return _outcomes[0].code


def _launcher(hydra: Any) -> str | None:
    return str(hydra.runtime.choices.get("hydra/launcher"))


def _folder(config: DictConfig, group: str) -> Path:
    return Path(str(config.runs)) / ".sweeps" / group


def _group(words: list[str], config: DictConfig) -> str:
    claimed = claim.name_of(words)
    if claimed:
        return claim.claim_folder(config, claimed, words).name
    return f"{OmegaConf.select(config, 'hydra.runtime.choices.experiment')}-{digest(' '.join(sorted(words)))[:8]}"


def _sweep(flags: list[str], words: list[str], config: DictConfig) -> int:
    group = os.environ["QUIRE_SWEEP"] = _group(detached.without_launcher(words), config)
    folder, searched = _folder(config, group), _searched(words, config)
    is_basic = OmegaConf.select(config, "hydra.runtime.choices.hydra/sweeper") == "basic"
    if _launcher(config.hydra) == detached.LAUNCHER:
        if not is_basic:
            raise BadInputError(
                f"hydra/launcher={detached.LAUNCHER} waits for no result, by which a search would go on: take"
                " hydra/launcher=submitit_slurm"
            )
        launcher: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
        with sweep.begun(folder):
            return detached.submit(folder.absolute(), _runs(words), words, launcher)
    # Flags of Hydra's own and other sweepers go the whole way through Hydra.
    runs = multirun.cells(words, config) if is_basic and _MULTIRUN.issuperset(flags) else None
    if rank() == 0:
        with sweep.begun(folder):
            pass
    global _swept_by  # noqa: PLW0603 - Hydra leaves no other way to its task
    _swept_by = os.getpid()
    # Our own signal, which a run answers by saving; submitit's default is another.
    os.environ.setdefault("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    # A launcher that lost a job, too, ends with the table: our own files tell how every run ended.
    launched = 0
    waiting: AbstractContextManager[None] = nullcontext()
    if _launcher(config.hydra) == "submitit_slurm":
        from harness.waiting import as_the_queue_tells

        waiting = as_the_queue_tells(folder.absolute())
    try:
        with waiting:
            if runs is None:
                _hydra(flags, [*words, *searched])
            else:
                multirun.launch(runs, words, _task, folder)
    except SystemExit as error:
        launched = 0 if isinstance(error, _StoppedError) else 1
    if rank():
        # The first process tells of all.
        return next((outcome.code for outcome in _outcomes if outcome.code), launched)
    return _end(words, config) or launched


# What is another way to the same search, not another search.
_NOT_OF_A_STUDY = ("hydra.sweeper.n_", "hydra/launcher", "hydra.launcher", "hardware", "logger")


def _searched(words: list[str], config: DictConfig) -> list[str]:
    """Return what a sweeper that searches has to be told: which way the metric that chooses the weights gets better."""
    if OmegaConf.select(config, "hydra.runtime.choices.hydra/sweeper") != "optuna":
        return []
    if OmegaConf.select(config, "callbacks.best.monitor") is None:
        raise BadInputError("hydra/sweeper=optuna: nothing is there to search by: set callbacks.best.monitor")
    told = {word.partition("=")[0] for word in words}
    # With a storage, the same command goes on with its own study.
    ours = {
        "hydra.sweeper.direction": f"{config.callbacks.best.mode}imize",
        "hydra.sweeper.study_name": _group(
            [w for w in words if not w.lstrip("+~").startswith(_NOT_OF_A_STUDY)], config
        ),
    }
    return [f"{key}={value}" for key, value in ours.items() if key not in told]


def _runs(words: list[str]) -> list[list[str]]:
    """Return the words of every run of a sweep, of a claim those of its arms."""
    own = detached.without_launcher(words)
    if claim.name_of(own):
        return [run.words for run in claim.runs_of(own)]
    return list(claim.cells(own))


def _end(words: list[str], config: DictConfig) -> int:
    """Show how the runs of a sweep ended, and conclude a claim."""
    claimed = claim.name_of(words)
    swept = [*words, *(claim.axes(words) if claimed else [])]
    axes = [str(o.get_key_element()) for o in parse(swept) if o.is_sweep_override()]
    code = sweep.end(_folder(config, _group(detached.without_launcher(words), config)), axes)
    if claimed and config.mode in {"fit", "test"}:
        from harness.claim_result import conclude

        conclude(detached.without_launcher(words), plain(config))
    return code
