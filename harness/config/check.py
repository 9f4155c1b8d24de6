"""The static check: every `_target_` node against its signature, every key, every type, without importing any of it."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from omegaconf import DictConfig

from common.errors import UserError, suggestion
from common.ranges import is_finite
from common.renamed_keys import renamed_key
from common.targets import GIVEN, NOT_ARGUMENTS, facts_in, not_allowed
from harness.config import signatures
from harness.config.claim_errors import errors_in_claim
from harness.config.compose import Composed, composed
from harness.config.data_fit import misfit, misfit_of_config
from harness.config.origin import origin
from harness.config.references import dependency_job, overrides_of, references

# The scalars of conf/config.yaml, the groups, and the two lines an experiment says of itself.
KNOWN = {
    "seed": int,
    "mode": str,
    "ckpt": str,
    "force": bool,
    "runs": str,
    "description": str,
    "runtime": str,
    "headline": list,
    "seeds": int,
    "is_tiny": bool,
    "model": dict,
    "data": dict,
    "tuner": dict,
    "hardware": dict,
    "trainer": dict,
    "callbacks": dict,
    "logger": dict,
    "claim": dict,
}
# Keys that may be null or left out; model and data are told of by their own line.
_MAY_LACK = {"ckpt", "description", "runtime", "headline", "logger", "model", "data", "claim"}
# Arguments of the Trainer that harness/run/build.py sets itself.
_BUILT = {
    "callbacks",
    "logger",
    "plugins",
    "default_root_dir",
    "enable_progress_bar",
    "enable_model_summary",
    "num_sanity_val_steps",
    "use_distributed_sampler",
}
# The last four inspect existing runs (harness/cli) and train nothing.
MODES = ("fit", "test", "check", "cost", "report", "publish", "dashboard", "sample", "status")
NAMES = {int: "a whole number", str: "a text", bool: "true or false", dict: "a config group", list: "a list"}


class _Findings:
    def __init__(self, config: Composed, overrides: list[str]) -> None:
        self.config, self.overrides, self.lines = config, overrides, list[str]()
        self.told: set[str] = set()

    def add(self, key: str, what: str) -> None:
        self._add(key, f"{key}: {what}")

    def add_unknown(self, key: str, known: Iterable[str]) -> None:
        if present := self.present_name(key):
            self._add(key, f"{key} is renamed to {present}")
        else:
            self.add(key, f"no such key{suggestion(key.rpartition('.')[2], known)}")

    def present_name(self, key: str) -> str | None:
        """Return what a key is called, None for one that has no other name."""
        present = renamed_key(self.config.values, key)
        return present if present != key else None

    def _add(self, key: str, line: str) -> None:
        # A value taken from another key is told of there.
        if key not in self.config.interpolated:
            self.told.add(key)
        self.lines.append(f"{origin(key, self.overrides, self.config.choices)}: {line}")


def _check_scalars(config: dict[str, Any], found: _Findings) -> None:
    for key, value in config.items():
        if key not in KNOWN:
            found.add_unknown(key, KNOWN)
        elif value is not None and (not isinstance(value, KNOWN[key]) or (KNOWN[key] is int and value is True)):
            found.add(key, f"is {value!r}, should be {NAMES[KNOWN[key]]}")
    for key in KNOWN:
        if config.get(key) is None and key not in _MAY_LACK:
            found.add(key, "must be given")
    mode = config.get("mode")
    if isinstance(mode, str) and mode not in MODES:
        found.add("mode", f"no mode {mode!r}{suggestion(mode, MODES)}")
    for key, least in (("seed", 0), ("seeds", 1)):
        if isinstance(number := config.get(key), int) and number < least:
            found.add(key, f"is {number}, should be at least {least}")


def _check_call(
    node: dict[str, Any], signature: signatures.Signature, key: str, found: _Findings, given: set[str]
) -> None:
    for name, value in node.items():
        path = f"{key}.{name}"
        if name in NOT_ARGUMENTS:
            continue
        if name not in signature.params:
            if found.present_name(path) or not signature.accepts_any:
                found.add_unknown(path, signature.params)
            continue
        annotation = signature.params[name].annotation
        if value == "???":
            found.add(path, "must be given")
        elif expected := signatures.fits(value, annotation, signature.scope):
            found.add(path, f"is {value!r}, should be {expected}")
        else:
            for place, inner, fields in signatures.nested(value, annotation, signature.scope, path):
                _check_call(inner, fields, place, found, set())
    present = {(found.present_name(f"{key}.{name}") or "").rpartition(".")[2] for name in node}
    for name, param in signature.params.items():
        if not param.has_default and name not in node and name not in given and name not in present:
            found.add(key, f"lacks {name}")


def _check_target(node: dict[str, Any], key: str, found: _Findings) -> None:
    target = node.get("_target_")
    if not isinstance(target, str):
        found.add(key, "lacks _target_, the class to build")
    elif reason := not_allowed(target, key):
        found.add(f"{key}._target_", reason)
    elif (signature := signatures.find(target)) is None:
        found.add(f"{key}._target_", f"there is no {target!r}")
    else:
        _check_call({k: v for k, v in node.items() if k not in facts_in(node)}, signature, key, found, GIVEN)


def _check_paths(data: dict[str, Any], found: _Findings) -> None:
    """Check what a data config declares as paths: a wrong key would leave the data out of what a run is."""
    for key, kind in (data.get("_paths_") or {}).items():
        if key not in data:
            found.add(f"data._paths_.{key}", f"no such key in data{suggestion(key, set(data) - NOT_ARGUMENTS)}")
        elif kind not in ("open", "closed") and not (isinstance(kind, list) and all(isinstance(k, str) for k in kind)):
            found.add(f"data._paths_.{key}", f"is {kind!r}, should be open, closed or a list of names below it")


def _check_fit(values: dict[str, Any], found: _Findings) -> bool:
    """Check that the data hold what the model needs; return whether they do."""
    model, data = values.get("model"), values.get("data")
    line = misfit(model, data, found.config.choices) if isinstance(model, dict) and isinstance(data, dict) else None
    if line:
        found.add("data", line)
    return line is None


def _check_facts(data: dict[str, Any], found: _Findings) -> None:
    """Check what a data config declares as facts: nobody chooses them, and each is there to be read."""
    for name in sorted(facts_in(data) - set(data)):
        found.add(f"data._facts_.{name}", f"no such key in data{suggestion(name, set(data) - NOT_ARGUMENTS)}")
    for override in found.overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key.startswith("data.") and key.removeprefix("data.").split(".")[0] in facts_in(data):
            found.lines.append(f"command line: {key}: is a fact of these data: set the key of the model that takes it")


def _check_tuner(config: dict[str, Any], found: _Findings) -> None:
    tuner, model = config.get("tuner"), config.get("model")
    if not isinstance(tuner, dict) or not tuner.get("_target_"):
        return
    _check_target(tuner, "tuner", found)
    if isinstance(model, dict) and "tuner" not in model:
        found.add("tuner", f"the model {found.config.choices.get('model')} takes no tuner: tuner=none")


def _check_nodes(nodes: dict[str, Any], key: str, found: _Findings) -> None:
    for name, node in nodes.items():
        if isinstance(node, dict):
            _check_target(node, f"{key}.{name}", found)
        elif node is not None:
            found.add(f"{key}.{name}", f"is {node!r}, should be a config group")


def _check_trainer(config: dict[str, Any], found: _Findings) -> None:
    signature = signatures.find("pytorch_lightning.Trainer")
    assert signature is not None
    keys = signatures.typed_dict("harness.config.trainer_keys.TrainerKeys")
    assert keys is not None
    for key, more in (("trainer", set()), ("hardware", {"devices", "num_nodes", "threads"})):
        values = dict.fromkeys(more) | config[key]
        ranged = {name for name in values if name in keys.params and name in more | set(signature.params)}
        _check_call({name: values[name] for name in ranged}, keys, key, found, set())
        _check_call({n: v for n, v in values.items() if n not in ranged}, signature, key, found, set(signature.params))
    hardware = config["hardware"]
    for key in sorted(set(config["trainer"]) & (_BUILT | set(hardware))):
        found.add(f"trainer.{key}", "is set by the hardware group" if key in hardware else "is set by the harness")
    if config["trainer"].get("max_epochs") == 0 or config["trainer"].get("max_steps") == 0:
        found.add("trainer", "max_epochs or max_steps is 0, so there would be nothing to test; -1 sets no limit")
    world = _world(hardware)
    data = config.get("data")
    batch = data.get("batch_size") if isinstance(data, dict) else None
    if isinstance(batch, int) and world > 1 and batch % world:
        found.add("data.batch_size", f"the global batch of {batch} cannot be divided over {world} processes")


def _check_claim(claim: dict[str, Any], num_seeds: int, found: _Findings) -> None:
    signature, before = signatures.typed_dict("harness.config.claim_schema.Claim"), len(found.lines)
    assert signature is not None
    _check_call(claim, signature, "claim", found, set())
    # Contradictions are looked for in a claim whose types are right.
    if len(found.lines) == before:
        for key, complaint in errors_in_claim(claim, num_seeds):
            found.add(key, complaint)


def _check_references(config: dict[str, Any], found: _Findings) -> None:
    for key in ("model", "ckpt"):
        for reference in dict.fromkeys(references(config[key])):
            try:
                dependency_job(reference, config)
            except UserError as error:
                found.lines += [f"{reference}: {line.removeprefix('command line: ')}" for line in error.lines]
                continue
            found.lines += [f"{reference}: {line}" for line in _errors_of(reference, config["is_tiny"])]


@cache
def _errors_of(reference: str, is_tiny: bool) -> list[str]:
    overrides = overrides_of(reference, is_tiny)
    return errors_in_composed(composed(overrides), overrides)


def _world(hardware: dict[str, Any]) -> int:
    devices, nodes = hardware.get("devices"), hardware.get("num_nodes")
    return devices * nodes if isinstance(devices, int) and isinstance(nodes, int) else 1


def errors_in(config: DictConfig, overrides: list[str]) -> list[str]:
    """Return a line for everything wrong in a composed config, each with its file and the suggestion right thing."""
    try:
        return errors_in_composed(Composed.of(config), overrides)
    except UserError as error:
        # A key that these data lack cannot be taken from them.
        line = misfit_of_config(config)
        return [f"{origin('data', overrides, _choices(config))}: data: {line}"] if line else error.lines


def _choices(config: DictConfig) -> dict[str, Any]:
    return dict(config.hydra.runtime.choices)


def errors_in_composed(config: Composed, overrides: list[str]) -> list[str]:
    """Return a line for everything wrong in a config, as `errors_in` does."""
    values, found = config.values, _Findings(config, overrides)
    _check_scalars(values, found)
    fits = _check_fit(values, found)
    for key in ("model", "data"):
        if isinstance(values.get(key), dict):
            # What an experiment sets of its own data need not be a key of others.
            if fits or key != "data":
                _check_target(values[key], key, found)
        elif key not in (line.split(": ")[1] for line in found.lines):
            found.add(key, f"no {key} chosen")
    if isinstance(values.get("data"), dict):
        _check_paths(values["data"], found)
        _check_facts(values["data"], found)
    _check_tuner(values, found)
    for key in ("callbacks", "logger"):
        if isinstance(values.get(key), dict):
            _check_nodes(values[key], key, found)
    _check_finite(values, "", found)
    _check_across(values, found)
    return found.lines


def _check_finite(node: Any, key: str, found: _Findings) -> None:
    """Find numbers that are not finite where no annotation says what they are."""
    if key in found.config.interpolated:
        return
    if isinstance(node, dict | list):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            _check_finite(value, f"{key}.{name}" if key else str(name), found)
    elif isinstance(node, float) and not is_finite(node) and found.told.isdisjoint(_above(key)):
        found.add(key, f"is {node}, should be a finite number")


def _above(key: str) -> list[str]:
    """Return a dotted key and all keys above it."""
    parts = key.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _check_across(values: dict[str, Any], found: _Findings) -> None:
    """Check what several groups have to agree on."""
    if isinstance(values.get("trainer"), dict) and isinstance(values.get("hardware"), dict):
        _check_trainer(values, found)
    data = values.get("data")
    if isinstance(data, dict):
        batch, size = data.get("batch_size"), data.get("train_size")
        if isinstance(batch, int) and isinstance(size, int) and 0 < size < batch:
            found.add(
                "data.batch_size",
                f"is {batch}, but data.train_size is {size}, fewer than one batch: lower data.batch_size",
            )
    if isinstance(values.get("claim"), dict):
        _check_claim(values["claim"], values["seeds"] if isinstance(values.get("seeds"), int) else 0, found)
    if not found.lines:
        _check_references(values, found)
