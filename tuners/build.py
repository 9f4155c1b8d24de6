"""From a config node to a tuner, for modules that are given plain values only."""

import importlib
from collections.abc import Mapping
from typing import Any

from common.errors import UserError
from tuners.tuner import Tuner


def build_tuner(node: Mapping[str, Any]) -> Tuner:
    """Return the tuner that a node names, attached to nothing yet.

    Args:
        node: `_target_`, a class of this package by its dotted name, and its plain values.

    Raises:
        UserError: if it names no class of this package, or the class refuses its values.
    """
    target = str(node["_target_"])
    module, _, name = target.rpartition(".")
    if not module.startswith("tuners."):
        raise UserError(f"tuner._target_: {target!r} is not allowed: targets start with tuners.")
    values = {key: value for key, value in node.items() if not key.startswith("_")}
    try:
        tuner: Tuner = getattr(importlib.import_module(module), name)(**values)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"tuner: {error}") from error
    return tuner
