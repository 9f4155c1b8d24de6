"""Signatures read from source text say what importing would."""

import inspect

import pytest
from pytorch_lightning import Trainer

from harness.config import signatures
from lightning_modules.uosr.module import UOSR

TRAINER = signatures.find("pytorch_lightning.Trainer")
MODULE = signatures.find("lightning_modules.uosr.module.UOSR")


def test_signatures_are_those_of_the_imported_classes():
    assert list(TRAINER.params) == list(inspect.signature(Trainer).parameters)
    assert list(MODULE.params) == list(inspect.signature(UOSR).parameters)


def test_a_missing_class_or_module_is_not_found():
    assert signatures.find("pytorch_lightning.Trainr") is None
    assert signatures.find("no_such_module.Thing") is None


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("max_epochs", 3, None),
        ("max_epochs", None, None),
        ("max_epochs", "3", "a whole number or null"),
        ("max_epochs", True, "a whole number or null"),
        ("limit_train_batches", 0.5, None),
        ("precision", "bf16-mixed", None),
        ("devices", "auto", None),
        ("strategy", "ddp", None),
    ],
)
def test_values_against_lightnings_annotations(key, value, expected):
    assert signatures.fits(value, TRAINER.params[key].annotation, TRAINER.scope) == expected


def test_choices_come_with_the_nearest():
    answer = signatures.fits("eo", MODULE.params["objective"].annotation, MODULE.scope)
    assert answer.startswith("one of ce, oe, energy")
    near = signatures.fits("prosser", MODULE.params["objective"].annotation, MODULE.scope)
    assert near.endswith("did you mean proser?")


def test_typed_dicts_have_fields_that_are_required():
    fields = signatures.fields(MODULE.params["backbone"].annotation, MODULE.scope)
    assert set(fields.params) == {"name", "weights", "zero_head"}
    assert not any(param.has_default for param in fields.params.values())
    assert signatures.fields(MODULE.params["num_classes"].annotation, MODULE.scope) is None


def test_lists_and_mappings():
    shots = MODULE.params["shots"].annotation
    assert signatures.fits([1, 5], shots, MODULE.scope) is None
    assert signatures.fits([1, "five"], shots, MODULE.scope) == "a list in which each is a whole number, at least 1"
    assert signatures.fits(1, shots, MODULE.scope) == "a list"


def test_a_base_of_another_module_is_not_mistaken_for_the_class_itself():
    fields = signatures.typed_dict("lightning_modules.uosr.backbones.Backbone")
    assert set(fields.params) == {"name", "weights", "zero_head"}
