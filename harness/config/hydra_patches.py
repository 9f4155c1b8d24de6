"""Work of Hydra and OmegaConf that is repeated for every config and changes nothing, left out: half of composing."""

from functools import cache
from typing import Any

from hydra._internal import defaults_list
from hydra._internal.core_plugins.structured_config_source import StructuredConfigSource
from omegaconf import base

_interpolation_map = defaults_list._create_interpolation_map  # noqa: SLF001


def _map_if_needed(overrides: Any, entries: list[Any], self_added: bool) -> Any:
    # Hydra makes it for each file, but reads it for entries such as `data: ${model}` only.
    texts = (str(getattr(entry, name, "")) for entry in entries for name in ("value", "path"))
    return _interpolation_map(overrides, entries, self_added) if any("${" in text for text in texts) else None


defaults_list._create_interpolation_map = _map_if_needed  # type: ignore[assignment] # noqa: SLF001
# It holds nothing but the store of all structured configs, the same one in every copy.
StructuredConfigSource.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined] # noqa: ARG005
# The text of an interpolation is parsed each time that it is resolved; the tree is only read.
base.parse = cache(base.parse)
