"""Composing the config before Hydra does, to collect every mistake of the command line at once."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.errors import BadInputError, nearest
from harness.slurm import gpus_to_ask_for

# What a SLURM job asks for follows from the hardware group.
OmegaConf.register_new_resolver("gpus", gpus_to_ask_for, replace=True)
CONF = Path(__file__).resolve().parent.parent / "conf"


def options(group: str) -> list[str]:
    """Return the names that a config group offers, read from its folder."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def parse(words: list[str]) -> list[Override]:
    """Parse overrides; a word that Hydra cannot read is bad input."""
    parser, parsed, wrong = OverridesParser.create(), [], []
    for word in words:
        try:
            parsed += parser.parse_overrides([word])
        except (OverrideParseException, HydraException):
            wrong.append(f"command line: cannot read {word!r}: write key=value (quote it if it holds commas or spaces)")
    if wrong:
        raise BadInputError(*wrong)
    return parsed


def values_of(override: Override) -> list[str]:
    """Return the values that a swept key takes; of an interval, which a sweeper searches, its ends."""
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        return [str(sweep.start), str(sweep.end)]
    return list(override.sweep_string_iterator())


def variants(overrides: list[Override]) -> Iterator[list[str]]:
    """Yield the override lists that cover every value of every swept key once (not every combination)."""
    swept = {i: values_of(o) for i, o in enumerate(overrides) if o.is_sweep_override()}

    def line(chosen: dict[int, str]) -> list[str]:
        return [
            f"{overrides[i].get_key_element()}={chosen[i]}" if i in swept else (overrides[i].input_line or "")
            for i in range(len(overrides))
        ]

    first = {i: values[0] for i, values in swept.items()}
    yield line(first)
    for i, values in swept.items():
        for value in values[1:]:
            yield line(first | {i: value})


def _explain(error: Exception, words: list[str]) -> tuple[str, str | None]:
    """Return the plain line for a composition error and the command-line word to blame, if one is."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        blamed = next((w for w in words if w.split("=", 1)[0].lstrip("+~") == group), None)
        where = "command line" if blamed else f"a defaults list asking for {group}={name}"
        return f"{where}: no {group or 'config'} named {name!r}{nearest(name, options(group))}", blamed
    found = re.search(r"Could not (?:override|append to config|delete from config)[^']*'([^']+)'", text)
    key = found.group(1) if found else None
    blamed = next((w for w in words if key and w.split("=", 1)[0].lstrip("+~").split("@")[0] == key), None)
    if key is None or blamed is None:
        first = text.strip().splitlines()
        cause = error.__cause__ or error.__context__
        return f"config: {first[0] if first else type(error).__name__}{f' ({cause})' if cause else ''}", None
    return f"command line: {key}: {{}}", blamed


def _key_hint(key: str, config: DictConfig) -> str:
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if not isinstance(node, DictConfig):
        return f"there is no {parent}{nearest(parent, _paths(config))}"
    known = [str(k) for k in node if k != "hydra"]
    return f"no such key in {parent or 'the config'}{nearest(leaf, known)}"


def _paths(config: DictConfig) -> list[str]:
    return [str(k) for k, v in config.items() if isinstance(v, DictConfig)]


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Give the composition a Hydra of its own, also within a run that Hydra has started."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = None
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF), job_name="run"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def compose_words(words: list[str]) -> DictConfig:
    """Compose one config from override words.

    Raises:
        BadInputError: naming every word at fault, each with the nearest right one.
    """
    wrong: list[str] = []
    unknown: list[str] = []
    words = list(words)
    with _own_hydra():
        while True:
            try:
                config = compose("config", overrides=words, return_hydra_config=True)
                break
            except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
                line, blamed = _explain(error, words)
            if blamed is None or blamed.startswith("experiment="):
                raise BadInputError(*wrong, line)
            words.remove(blamed)
            if line.endswith("{}"):
                unknown.append(blamed.split("=", 1)[0].lstrip("+~"))
            else:
                wrong.append(line)
    wrong += [f"command line: {key}: {_key_hint(key, config)}" for key in unknown]
    if wrong:
        raise BadInputError(*wrong, *_silent_mistakes(config, words))
    return config


def _silent_mistakes(config: DictConfig, words: list[str]) -> list[str]:
    from harness.check import mistakes

    return mistakes(config, words)


def plain(config: DictConfig) -> dict[str, Any]:
    """Return the config as plain values, interpolations resolved, without Hydra's own node."""
    bare = OmegaConf.create({k: v for k, v in config._content.items() if k != "hydra"})  # type: ignore[union-attr] # noqa: SLF001
    try:
        resolved = OmegaConf.to_container(bare, resolve=True)
    except OmegaConfBaseException as error:
        raise BadInputError(f"config: {getattr(error, 'full_key', '')}: {str(error).splitlines()[0]}") from None
    assert isinstance(resolved, dict)
    return {str(k): v for k, v in resolved.items()}
