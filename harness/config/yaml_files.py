"""YAML files, parsed by libyaml and once as long as they do not change, for Hydra and for the checks alike."""

from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from common.errors import UserError

_ROOT = Path(__file__).resolve().parent.parent
_Rules: Any = get_yaml_loader()
_parsed: dict[Path, tuple[tuple[int, int], Any, dict[str, str | None]]] = {}

if yaml.__with_libyaml__:
    from yaml.cyaml import CParser

    class _Loader(CParser, _Rules):
        """OmegaConf's own rules behind libyaml's parser."""

        def __init__(self, stream: Any) -> None:
            CParser.__init__(self, stream)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)
else:
    _Loader = _Rules  # type: ignore[misc]


def _read(path: Path) -> tuple[Any, dict[str, str | None]]:
    """Return a file's content, not to be changed by the caller, and Hydra's header of it."""
    stat = path.stat()
    state = (stat.st_mtime_ns, stat.st_size)
    if path not in _parsed or _parsed[path][0] != state:
        with path.open(encoding="utf-8") as file:
            header = ConfigSource._get_header_dict(file.read(512))  # noqa: SLF001
            file.seek(0)
            _parsed[path] = (state, yaml.load(file, Loader=_Loader), header)  # noqa: S506
    return _parsed[path][1:]


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a config file as written, or nothing if there is none.

    Raises:
        UserError: with file and line if it is no YAML.
    """
    try:
        return (_read(path)[0] or {}) if path.exists() else {}
    except yaml.MarkedYAMLError as error:
        raise UserError(broken(error)) from None


def broken(error: yaml.MarkedYAMLError) -> str:
    """Return the plain line for a file that is no YAML."""
    mark = error.problem_mark or error.context_mark
    path = Path(mark.name)
    shown = path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else path
    return f"{shown}:{mark.line + 1}: {error.problem or error.context}"


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's source of config files; of the same name, since Hydra registers its own unless it has one so called."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Return a config file's content."""
        path = Path(self.path, self._normalize_file_name(config_path)).resolve()
        try:
            content, header = _read(path)
        except (OSError, yaml.YAMLError):
            content = None
        if not isinstance(content, dict):
            # Hydra reports what is broken or empty.
            return super().load_config(config_path)
        place = f"{self.scheme()}://{self.path}"
        return ConfigResult(provider=self.provider, path=place, config=OmegaConf.create(content), header=dict(header))


SourcesRegistry.instance().types["file"] = FileConfigSource
