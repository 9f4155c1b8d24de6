"""Hydra's config loader for many compositions: each file is read once, Hydra's own options are merged once."""

import copy
from itertools import takewhile
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, flag_override


class SharingLoader(ConfigLoaderImpl):
    """A loader whose compositions share what they read, as long as no config file changes."""

    _repository: CachingConfigRepository | None = None

    def __init__(self, config_search_path: Any) -> None:
        super().__init__(config_search_path)
        self._of_hydra: dict[tuple[Any, ...], DictConfig] = {}

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        if any(text.lstrip("+~").startswith("hydra.searchpath") for text in overrides):
            return super()._parse_overrides_and_create_caching_repo(config_name, overrides)
        if self._repository is None:
            self._repository = super()._parse_overrides_and_create_caching_repo(config_name, [])[1]
        return OverridesParser.create().parse_overrides(overrides), self._repository

    def _load_single_config(self, default: Any, repo: Any) -> Any:
        # Merging moves nodes out of what was read.
        result = copy.copy(super()._load_single_config(default, repo))
        result.config = copy.deepcopy(result.config)
        return result

    def _compose_config_from_defaults_list(self, defaults: list[Any], repo: Any) -> DictConfig:
        own = list(takewhile(lambda default: str(default.config_path).startswith("hydra/"), defaults))
        key = tuple((default.config_path, default.package) for default in own)
        if key not in self._of_hydra:
            self._of_hydra[key] = super()._compose_config_from_defaults_list(own, repo)
        config = copy.deepcopy(self._of_hydra[key])
        rest = super()._compose_config_from_defaults_list(defaults[len(own) :], repo)
        with flag_override(config, "no_deepcopy_set_nodes", True):
            config.merge_with(rest)
        return config
