"""From overrides to a composed config, or to everything that is wrong with them."""

from omegaconf import DictConfig

from common.errors import UserError
from harness.config.check import errors_in, errors_in_composed
from harness.config.compose import compose_with_errors, composed
from harness.config.overrides import parse, variants


def load(overrides: list[str]) -> DictConfig:
    """Compose one config.

    Raises:
        UserError: naming every override at fault, each with a suggestion, and what is wrong in the rest of the config.
    """
    config, errors, accepted = compose_with_errors(overrides)
    if errors:
        raise UserError(*errors, *errors_in(config, accepted))
    return config


def load_checked(overrides: list[str]) -> DictConfig:
    """Check every variant of a command line (each swept value once), and return the composed config of the first.

    Raises:
        UserError: with every error, each reported once.
    """
    lines: dict[str, None] = {}
    first, *others = variants(parse(overrides))
    for variant in (first, *others):
        try:
            lines |= dict.fromkeys(_errors_of(variant))
        except UserError as error:
            lines |= dict.fromkeys(error.lines)
    if lines:
        raise UserError(*lines)
    return load(first)


def _errors_of(overrides: list[str]) -> list[str]:
    try:
        config = composed(overrides)
    except UserError:
        partial, errors, accepted = compose_with_errors(overrides)
        return [*errors, *errors_in(partial, accepted)]
    return errors_in_composed(config, overrides)
