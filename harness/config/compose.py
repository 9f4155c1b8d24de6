"""Composing the config before Hydra does, to collect every error of the command line at once."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy, deepcopy
from functools import lru_cache
from typing import Any, NamedTuple

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import AnyNode, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from common.errors import UserError, suggestion
from common.renamed_keys import RENAMED_EXPERIMENTS, renamed_key
from harness.config import hydra_patches  # noqa: F401 - what it does to Hydra
from harness.config.overrides import parse
from harness.config.sharing_loader import SharingLoader
from harness.config.yaml_files import broken
from harness.core.paths import CONF
from harness.core.slurm import gpus_to_ask_for

# What a SLURM job asks for follows from the hardware group.
OmegaConf.register_new_resolver("gpus", gpus_to_ask_for, replace=True)
_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError)


def options(group: str) -> list[str]:
    """Return the names that a config group offers, read from its folder."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _explain(error: Exception, overrides: list[str]) -> tuple[str, str | None]:
    """Return the plain line for a composition error and the override at fault, if one is."""
    text = str(error)
    if isinstance(error, MarkedYAMLError):
        return broken(error), None
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        blamed = next((w for w in overrides if w.split("=", 1)[0].lstrip("+~") == group), None)
        where = "command line" if blamed else f"a defaults list asking for {group}={name}"
        if group == "experiment" and name in RENAMED_EXPERIMENTS:
            return f"{where}: experiment={name} is renamed to experiment={RENAMED_EXPERIMENTS[name]}", blamed
        return f"{where}: no {group or 'config'} named {name!r}{suggestion(name, options(group))}", blamed
    found = re.search(r"Could not (?:override|append to config|delete from config)[^']*'([^']+)'", text)
    key = found.group(1) if found else None
    blamed = next((w for w in overrides if key and w.split("=", 1)[0].lstrip("+~").split("@")[0] == key), None)
    if key is None or blamed is None:
        first = text.strip().splitlines()
        cause = error.__cause__ or error.__context__
        return f"config: {first[0] if first else type(error).__name__}{f' ({cause})' if cause else ''}", None
    return f"command line: {key}{{}}", blamed


def _key_hint(key: str, config: DictConfig) -> str:
    if (present := renamed_key(config, key)) != key:
        return f" is renamed to {present}"
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if not isinstance(node, DictConfig):
        return f": there is no {parent}{suggestion(parent, _paths(config))}"
    known = [str(k) for k in node if k != "hydra"]
    return f": no such key in {parent or 'the config'}{suggestion(leaf, known)}"


def _paths(config: DictConfig) -> list[str]:
    return [str(k) for k, v in config.items() if isinstance(v, DictConfig)]


@contextmanager
def own_hydra() -> Iterator[None]:
    """Give the composition a Hydra of its own, also within a run that Hydra has started."""
    before = GlobalHydra.instance().hydra
    try:
        GlobalHydra.instance().hydra = None
        GlobalHydra.instance().hydra = hydra_here()
        yield
    finally:
        GlobalHydra.instance().hydra = before


def hydra_here() -> Any:
    """Return a Hydra that reads our config folder."""
    return _hydra_of(_state())


@lru_cache(maxsize=1)
def _hydra_of(state: object) -> Any:  # noqa: ARG001 - what was read holds as long as no config file changes
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF), job_name="run"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        hydra.config_loader = SharingLoader(hydra.config_loader.get_search_path())
        return hydra


def _state() -> tuple[Any, ...]:
    """Return what compositions depend on besides the command line."""
    return str(CONF), _state_of_configs(), os.getcwd()  # noqa: PTH109


def _state_of_configs() -> tuple[int, int]:
    """Return number and newest time of all config files and folders: what is composed holds as long as it does."""
    times, folders = list[int](), [str(CONF)]
    for folder in folders:
        times.append(os.stat(folder).st_mtime_ns)  # noqa: PTH116 - called for every run of a sweep
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    times.append(entry.stat().st_mtime_ns)
    return len(times), max(times)


def _compose_or_explain(overrides: list[str]) -> tuple[DictConfig, list[str], list[str]]:
    """Compose a config by Hydra alone: what can be composed, an error for every override at fault, and the others."""
    wrong: list[str] = []
    unknown: list[str] = []
    overrides = list(overrides)
    with own_hydra():
        while True:
            try:
                config = compose("config", overrides=overrides, return_hydra_config=True)
                break
            except _ERRORS as error:
                line, blamed = _explain(error, overrides)
            if blamed is None or blamed.startswith("experiment="):
                raise UserError(*wrong, line)
            overrides.remove(blamed)
            if line.endswith("{}"):
                unknown.append(blamed.split("=", 1)[0].lstrip("+~"))
            else:
                wrong.append(line)
    wrong += [f"command line: {key}{_key_hint(key, config)}" for key in unknown]
    return config, wrong, overrides


def compose_with_errors(overrides: list[str]) -> tuple[DictConfig, list[str], list[str]]:
    """Compose one config from overrides.

    Returns:
        The config, an error with a suggestion for every override at fault, and the overrides that the config holds.

    Raises:
        UserError: if nothing can be composed.
    """
    base, values = _split(overrides)
    with suppress(*_ERRORS):
        return _base(base).copy_with(values, overrides), [], overrides
    return _compose_or_explain(overrides)


def composed(overrides: list[str]) -> "Composed":
    """Return a composed config as plain values; a few of them, set on a base composed before, take milliseconds.

    Raises:
        UserError: with every override at fault, and if no experiment is chosen or an interpolation leads nowhere.
    """
    base, values = _split(overrides)
    with suppress(UserError, *_ERRORS):
        if found := _base(base).composed_with(values):
            return found
    config, errors, _ = compose_with_errors(overrides)
    if errors:
        raise UserError(*errors)
    return Composed.of(config)


def _split(overrides: list[str]) -> tuple[tuple[str, ...], list[Override]]:
    """Return the overrides that choose files or set Hydra's own options, and those that apply after them."""
    base, values = [], []
    for text, override in zip(overrides, parse(overrides), strict=True):
        key = override.key_or_group
        is_group = (CONF / key).is_dir() and not isinstance(override.value(), dict)
        if is_group or key.partition(".")[0].partition("/")[0] == "hydra" or override.is_sweep_override():
            base.append(text)
        else:
            values.append(override)
    return tuple(base), values


_bases: dict[tuple[str, ...], "_Base"] = {}
_state_of_bases: object = None


def _base(overrides: tuple[str, ...]) -> "_Base":
    global _state_of_bases  # noqa: PLW0603 - what was composed is forgotten when a file changes
    state = _state()
    if state != _state_of_bases:
        _bases.clear()
        _state_of_bases = state
    if overrides not in _bases:
        with own_hydra():
            _bases[overrides] = _Base(compose("config", overrides=list(overrides), return_hydra_config=True))
    return _bases[overrides]


class Composed(NamedTuple):
    """A composed config as plain values, to be read only, the choices of the groups, and keys taken from other keys."""

    values: dict[str, Any]
    choices: dict[str, Any]
    interpolated: frozenset[str]

    @property
    def experiment(self) -> str:
        """The name of the experiment."""
        return str(self.choices["experiment"])

    @classmethod
    def of(cls, config: DictConfig) -> "Composed":
        """Return the plain values of a composed config."""
        choices: Any = OmegaConf.to_container(config.hydra.runtime.choices)
        if choices.get("experiment") is None:
            raise UserError("no experiment chosen: experiment=NAME; `python run.py` lists them")
        with without_hydra(config):
            interpolated = {".".join(map(str, path)) for _, _, path in _interpolations(config)}
        return cls(plain(config), choices, frozenset(interpolated))


class _Base:
    """A composed config on which values are set as Hydra sets them, many times over."""

    def __init__(self, config: DictConfig) -> None:
        self._config = config
        self._composed: Composed | None = None
        self._interpolations: list[tuple[Any, Any, tuple[Any, ...]]] = []

    def copy_with(self, parsed: list[Override], overrides: list[str]) -> DictConfig:
        """Return a copy of the config with some overrides applied, which are among `overrides`."""
        config = deepcopy(self._config)
        ConfigLoaderImpl._apply_overrides_to_config(parsed, config)  # noqa: SLF001
        task = [override for override in parse(overrides) if not override.is_hydra_override()]
        config.hydra.overrides.task = [override.input_line for override in task]
        form = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=task, kv_sep=form.kv_sep, item_sep=form.item_sep, exclude_keys=form.exclude_keys
        )
        return config

    def composed_with(self, parsed: list[Override]) -> Composed | None:
        """Return the plain values with some more overrides, None if one is more than a value in place of another."""
        if self._composed is None:
            self._composed = Composed.of(self._config)
            with without_hydra(self._config):
                self._interpolations = list(_interpolations(self._config))
        places = [self._place(override) for override in parsed]
        if None in places:
            return None
        before = []
        try:
            for override, (parent, leaf) in zip(parsed, places, strict=True):
                before.append((parent, leaf, parent[leaf]))
                parent[leaf] = copy(parent[leaf])
                ConfigLoaderImpl._apply_overrides_to_config([override], self._config)  # noqa: SLF001
            values = copied(self._composed.values)
            for override, (parent, leaf) in zip(parsed, places, strict=True):
                _set(values, override.key_or_group.split("."), parent[leaf]._value())  # noqa: SLF001
            with without_hydra(self._config):
                for node, key, path in self._interpolations:
                    _set(values, path, resolved(node, key))
        finally:
            for parent, leaf, node in reversed(before):
                parent[leaf] = node
        return self._composed._replace(values=values)

    def _place(self, override: Override) -> Any:
        """Return the mapping of nodes and the key where a plain value is to be set, None if it is not so plain."""
        value = override.value()
        is_plain = value is None or (isinstance(value, int | float | str) and "${" not in str(value) and value != "???")
        if not is_plain or override.type != OverrideType.CHANGE or override.package is not None:
            return None
        node: Any = self._config
        *above, leaf = override.key_or_group.split(".")
        for key in above:
            node = _nodes(node).get(key)
        found = _nodes(node).get(leaf)
        return (_nodes(node), leaf) if type(found) is AnyNode and not OmegaConf.is_interpolation(found) else None


def _nodes(node: Any) -> dict[Any, Any]:
    """Return the nodes in a mapping or a list as they are written."""
    content = node.__dict__["_content"] if OmegaConf.is_config(node) else None
    return dict(enumerate(content)) if isinstance(content, list) else content if isinstance(content, dict) else {}


def _interpolations(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, Any, tuple[Any, ...]]]:
    """Yield container, key and path of every value that is taken from elsewhere in the config."""
    for key, inner in _nodes(node).items():
        if OmegaConf.is_interpolation(inner):
            yield node, key, (*above, key)
        else:
            yield from _interpolations(inner, (*above, key))


def _set(values: Any, path: Sequence[Any], value: Any) -> None:
    for key in path[:-1]:
        values = values[key]
    values[path[-1]] = value


def copied(values: Any) -> Any:
    """Return a copy of a nest of plain values."""
    if isinstance(values, dict):
        return {key: copied(value) for key, value in values.items()}
    return [copied(value) for value in values] if isinstance(values, list) else values


def plain(config: DictConfig) -> dict[str, Any]:
    """Return the config as plain values, interpolations resolved, without Hydra's own node."""
    try:
        with without_hydra(config):
            return {str(key): resolved(config, key) for key in config}
    except OmegaConfBaseException as error:
        raise UserError(f"config: {getattr(error, 'full_key', '')}: {str(error).splitlines()[0]}") from None


@contextmanager
def without_hydra(config: DictConfig) -> Iterator[None]:
    """Take Hydra's own node out of a config: a run does not have it, so nothing in a run can be taken from it."""
    content = config.__dict__["_content"]
    config.__dict__["_content"] = {key: node for key, node in content.items() if key != "hydra"}
    try:
        yield
    finally:
        config.__dict__["_content"] = content


def resolved(node: Any, key: Any) -> Any:
    """Return one value of a config as plain values, interpolations resolved."""
    if OmegaConf.is_missing(node, key):
        return "???"
    value = node[key]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
