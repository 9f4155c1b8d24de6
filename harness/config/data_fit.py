"""Which data fit which model: what a DataModule `offers` and a LightningModule `needs`, both read without importing.

Each is a class attribute `{fact: condition}`. A condition compares keys of the class's own config, as in
`"poses.kind=labels or discriminator.pose_conditioned=true"` or `"objective=oe,energy and outliers!=null"`; an empty one
always holds. A class without the attribute offers, or needs, what nobody can tell: it is not checked.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.config import signatures
from harness.config.compose import options, own_hydra

_PLAIN = {None: "null", True: "true", False: "false"}


def misfit(model: Mapping[str, Any], data: Mapping[str, Any], choices: Mapping[str, Any]) -> str | None:
    """Return a line for data that lack what a model needs, with the data that fit; None if they fit.

    Args:
        model: the model's config.
        data: the data's config.
        choices: the chosen option of each config group.
    """
    needs = _declared(model, "needs")
    if needs is None or _declared(data, "offers") is None:
        return None
    wanted = {fact: condition for fact, condition in needs.items() if _holds(condition, model)}
    lacking = [fact for fact in wanted if fact not in _offered(data)]
    if not lacking:
        return None
    told = " and no ".join(f"{fact} (model.{wanted[fact]})" if wanted[fact] else fact for fact in lacking)
    fitting = ", ".join(_fitting(tuple(wanted))) or "none of conf/data"
    return f"{choices.get('data')} offers no {told}, which model={choices.get('model')} needs; data that fit: {fitting}"


def misfit_of_config(config: DictConfig) -> str | None:
    """Return the same line for a config whose values cannot be resolved, as keys that the data lack are taken."""
    return misfit(as_written(config.get("model")), as_written(config.get("data")), config.hydra.runtime.choices)


def as_written(node: Any) -> dict[str, Any]:
    """Return a node of a composed config with its interpolations unresolved."""
    values = OmegaConf.to_container(node) if OmegaConf.is_config(node) else None
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}


def _declared(node: Mapping[str, Any], attribute: str) -> dict[str, str] | None:
    target = node.get("_target_")
    found = signatures.plain_attribute(target, attribute) if isinstance(target, str) else None
    return found if isinstance(found, dict) else None


def _offered(data: Mapping[str, Any]) -> set[str]:
    return {fact for fact, condition in (_declared(data, "offers") or {}).items() if _holds(condition, data)}


def _holds(condition: str, node: Mapping[str, Any]) -> bool:
    return any(not _unmet(alternative, node) for alternative in condition.split(" or "))


def _unmet(alternative: str, node: Mapping[str, Any]) -> list[str]:
    """Return the comparisons, joined by "and", that do not hold."""
    return [term for term in alternative.split(" and ") if term and not _term_holds(term, node)]


def _term_holds(term: str, node: Mapping[str, Any]) -> bool:
    key, _, values = term.partition("=")
    value: Any = node
    for name in key.removesuffix("!").split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    text = _PLAIN[value] if value is None or isinstance(value, bool) else str(value)
    return (text in values.split(",")) != key.endswith("!")


@cache
def _fitting(wanted: tuple[str, ...]) -> list[str]:
    """Return the options of the data group that offer all facts, or do so with one more key, which is named."""
    fitting = []
    for name in options("data"):
        data = option(name)
        offers = _declared(data, "offers") or {}
        if set(wanted) <= set(offers):
            unmet = [term for fact in wanted for term in _unmet(offers[fact], data)]
            fitting += [" with data.".join([name, *unmet])] if len(unmet) <= 1 else []
    return fitting


@cache
def option(name: str) -> dict[str, Any]:
    """Return an option of the data group as it is written, empty for a broken file."""
    with suppress(HydraException, OmegaConfBaseException, YAMLError), own_hydra():
        return as_written(compose(f"data/{name}").data)
    return {}
