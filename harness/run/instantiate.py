"""The one road from a config node to an object: only targets of this project and of a short list of libraries."""

import importlib
import inspect
from typing import Any

from common.errors import UserError
from harness.config.targets import ALLOWED, NOT_ARGUMENTS


def instantiate(node: dict[str, Any], key: str, **given: Any) -> Any:
    """Build what a node names from its plain values.

    Args:
        node: `_target_` and plain values.
        key: where the node stands in the config, for messages.
        given: what the harness offers; only what the target accepts and the node leaves open is passed.

    Raises:
        UserError: if the target is not allowed, or it refuses its values with ValueError or TypeError.
    """
    target = str(node.get("_target_"))
    if not target.startswith(ALLOWED):
        raise UserError(f"{key}._target_: {target!r} is not allowed: targets start with {', '.join(ALLOWED)}")
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    module, _, name = target.rpartition(".")
    build = getattr(importlib.import_module(module), name)
    values = {name: value for name, value in node.items() if name not in NOT_ARGUMENTS}
    accepted = inspect.signature(build).parameters
    offered = {name: value for name, value in given.items() if name in accepted and name not in values}
    try:
        return build(**values, **offered)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise UserError(f"{key}: {error}") from error
