"""From a config node to an object: the only place that calls what a `_target_` names.

A target has to be a class of its kind, defined where such classes are defined: a name that some module merely imports
reaches nothing, whether it stands in a config or in the lock.json of a run.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from common.errors import UserError

# Keys of a node that are no arguments of its target; `_paths_` declares which are paths (common/fingerprint.py).
NOT_ARGUMENTS = {"_target_", "_recursive_", "_convert_", "_paths_", "_facts_"}
# What the harness hands to a node in addition to its config.
GIVEN = {"save_dir", "folder", "dirpath", "run"}


class Kind(NamedTuple):
    """What a target of one group of the config has to be.

    Attributes:
        noun: what an object of the kind is called.
        homes: packages in which its class is defined.
        base: the class that it derives from.
    """

    noun: str
    homes: tuple[str, ...]
    base: str


KINDS = {
    "model": Kind("a LightningModule", ("lightning_modules.",), "pytorch_lightning.LightningModule"),
    "data": Kind("a LightningDataModule", ("datamodules.",), "pytorch_lightning.LightningDataModule"),
    "tuner": Kind("a tuner", ("tuners.",), "tuners.tuner.Tuner"),
    "callbacks": Kind(
        "a callback", ("harness.training.", "pytorch_lightning.callbacks."), "pytorch_lightning.callbacks.Callback"
    ),
    "logger": Kind("a logger", ("harness.training.", "pytorch_lightning.loggers."), "pytorch_lightning.loggers.Logger"),
}


def not_allowed(target: object, key: str) -> str | None:
    """Return why a key of the config cannot have a target by its name alone, None if it can.

    Args:
        target: the dotted name.
        key: where the node stands in the config; its first part is the kind.
    """
    kind = KINDS[key.partition(".")[0]]
    if isinstance(target, str) and target.startswith(kind.homes):
        return None
    return f"{target!r} is not allowed: the target of {kind.noun} starts with {' or '.join(kind.homes)}"


def target_class(target: str, key: str) -> type:
    """Return the class that a target names.

    Args:
        target: the dotted name.
        key: where the node stands in the config.

    Raises:
        UserError: if there is no such class, or it is none of the key's kind.
    """
    if reason := not_allowed(target, key):
        raise UserError(f"{key}._target_: {reason}")
    try:
        found = _attribute(target)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{key}._target_: there is no {target!r} ({error})") from error
    kind = KINDS[key.partition(".")[0]]
    is_home = inspect.isclass(found) and f"{found.__module__}.".startswith(kind.homes)
    if not is_home or not issubclass(found, _attribute(kind.base)):
        raise UserError(f"{key}._target_: {target!r} is not {kind.noun} of {' or '.join(kind.homes)}")
    return found


def _attribute(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def facts_in(node: Mapping[str, Any]) -> set[str]:
    """Return the keys of a node that only other groups read: neither arguments of its target nor its user's choice.

    A data YAML declares them as `_facts_`, such as the number of channels where there is but one.
    """
    declared = node.get("_facts_") or []
    return {name for name in declared if isinstance(name, str)} if isinstance(declared, list) else set()


def build_target(node: Mapping[str, Any], key: str, **given: Any) -> Any:
    """Build what a node names from its plain values.

    Args:
        node: `_target_` and plain values.
        key: where the node stands in the config, for its kind and for messages.
        given: what the caller offers; only what the class accepts and the node leaves open is passed.

    Raises:
        UserError: if the target is not allowed, or it refuses its values with ValueError or TypeError.
    """
    build = target_class(str(node.get("_target_")), key)
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    values = {name: value for name, value in node.items() if name not in NOT_ARGUMENTS | facts_in(node)}
    accepted = inspect.signature(build).parameters
    offered = {name: value for name, value in given.items() if name in accepted and name not in values}
    try:
        return build(**values, **offered)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise UserError(f"{key}: {error}") from error
