"""Keys under their first and their present names: each the inverse of the other, none ambiguous, none without a key."""

import pytest

from common.renamed_keys import (
    RENAMED_EXPERIMENTS,
    RENAMED_KEYS,
    renamed_key,
    with_first_names,
    with_present_names,
)
from harness.config.compose import composed, options
from harness.config.yaml_files import read_yaml
from harness.core.paths import CONF

GEOD = "lightning_modules.geod.module.GeoD"
FIRST = {
    "about": "a",
    "model": {
        "_target_": GEOD,
        "triplane": {"box": 1.2, "rays": {"near": 2.2, "samples": 16}},
        "pigan": None,
        "regularisation": {"r1_gamma": 1.0},
        "evaluation": {"samples": 8},
        "tuner": {"_target_": "tuners.peft_tuner.PeftTuner", "target": None},
    },
    "claim": {"arms": {"ce": {"words": "x"}}, "statements": {"s": {"parts": [{"least": 1}]}}},
}
PRESENT = {
    "description": "a",
    "model": {
        "_target_": GEOD,
        "triplane": {"box_warp": 1.2, "rays": {"ray_start": 2.2, "depth_samples": 16}},
        "pigan": None,
        "regularization": {"r1_gamma": 1.0},
        "evaluation": {"samples": 8},
        "tuner": {"_target_": "tuners.peft_tuner.PeftTuner", "target_modules": None},
    },
    "claim": {"arms": {"ce": {"overrides": "x"}}, "statements": {"s": {"parts": [{"min_effect": 1}]}}},
}


def test_a_config_under_both_kinds_of_names():
    assert with_present_names(FIRST) == PRESENT
    assert with_first_names(PRESENT) == FIRST
    assert with_present_names(PRESENT) == PRESENT
    assert with_present_names(FIRST["model"]["triplane"], "") == FIRST["model"]["triplane"]
    hyper_parameters = {key: value for key, value in FIRST["model"].items() if key != "_target_"}
    expected = {key: value for key, value in PRESENT["model"].items() if key != "_target_"}
    assert with_present_names(hyper_parameters, GEOD) == expected


def test_of_two_names_in_one_section_the_present_one_counts():
    assert with_present_names({"about": "old", "description": "new"}) == {"description": "new"}
    assert with_present_names({"description": "new", "about": "old"}) == {"description": "new"}


@pytest.mark.parametrize(
    ("key", "present"),
    [
        ("about", "description"),
        ("model.triplane.rays.near", "model.triplane.rays.ray_start"),
        ("model.regularisation.r1_gamma", "model.regularization.r1_gamma"),
        ("model.tuner.target", "model.tuner.target_modules"),
        ("claim.statements.s.parts.0.least", "claim.statements.s.parts.0.min_effect"),
        ("model.evaluation.samples", "model.evaluation.samples"),
        ("model.no.such.key", "model.no.such.key"),
    ],
)
def test_a_dotted_key_under_both_names(key, present):
    assert renamed_key(PRESENT, key) == present
    assert renamed_key(PRESENT, present) == present
    assert renamed_key(PRESENT, present, "first") == key


def test_a_section_and_a_key_in_it_may_both_have_another_name():
    config = {"model": {"_target_": "lightning_modules.neural_dependency.module.NeuralDependency", "analysis": {}}}
    for key in ("model.reading.terms", "model.analysis.terms", "model.reading.num_nonzero"):
        assert renamed_key(config, key) == "model.analysis.num_nonzero"
    assert renamed_key(config, "model.analysis.num_nonzero", "first") == "model.reading.terms"


@pytest.mark.parametrize("experiment", options("experiment"))
def test_no_first_name_is_the_present_name_of_another_key(experiment):
    values = composed([f"experiment={experiment}"]).values
    assert with_present_names(values) == values
    assert with_present_names(with_first_names(values)) == values
    assert experiment not in RENAMED_EXPERIMENTS


def test_every_present_name_exists():
    assert set(RENAMED_EXPERIMENTS.values()) <= set(options("experiment"))
    nodes = [composed([f"claim={name}"]).values for name in options("claim")]
    nodes += nodes[0]["callbacks"].values()
    nodes += [
        read_yaml(CONF / group / f"{name}.yaml") for group in ("model", "data", "tuner") for name in options(group)
    ]
    # pi-GAN's file builds on the one that names the class.
    nodes += [composed(["experiment=geod_pigan"]).values["model"]]
    missing = {(target, present) for target, keys in RENAMED_KEYS.items() for present in keys.values()}
    for node in nodes:
        own = {present for target, present in missing if target == node.get("_target_", "")}
        missing -= {(node.get("_target_", ""), key) for key in own if _holds(node, key.split("."))}
    assert not missing


def _holds(node, path):
    if not path:
        return True
    if path[0] == "*":
        return any(_holds(item, path[1:]) for item in (node.values() if isinstance(node, dict) else node))
    return isinstance(node, dict) and path[0] in node and _holds(node[path[0]], path[1:])
