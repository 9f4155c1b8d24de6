"""What models need of data is held against what data offer, without importing either."""

import subprocess
import sys

import pytest

from harness.config.check import errors_in_composed
from harness.config.compose import composed, options
from harness.config.data_fit import misfit, option
from harness.config.identity import config_identity
from harness.core.paths import ROOT

SHAPES = {"_target_": "datamodules.shapes_open_set.ShapesOpenSet", "role": "open_set", "outliers": True}
UOSR = {"_target_": "lightning_modules.uosr.module.UOSR", "objective": "oe"}
GEOD = {"_target_": "lightning_modules.geod.module.GeoD"}
CHOICES = {"model": "m", "data": "d"}
FOLDER = {"_target_": "datamodules.generative.PictureFolder"}


def errors(*overrides):
    return errors_in_composed(composed(list(overrides)), list(overrides))


def test_conditions_of_needs_and_offers_are_those_of_the_options():
    assert misfit(UOSR, SHAPES, CHOICES) is None
    assert misfit(UOSR | {"objective": "ce"}, SHAPES | {"outliers": False}, CHOICES) is None
    for lacking in ({"outliers": False}, {"role": "pretrain"}):
        line = misfit(UOSR, SHAPES | lacking, CHOICES)
        assert line.startswith("d offers no outliers (model.objective=oe,energy,eb), which model=m needs; data that")
    for wanting in ({"poses": {"kind": "labels"}}, {"discriminator": {"pose_conditioned": True}}):
        assert "no cameras" in misfit(GEOD | wanting, FOLDER, CHOICES)
    other = {"poses": {"kind": "gaussian"}, "discriminator": {"pose_conditioned": False}}
    assert misfit(GEOD | other, FOLDER, CHOICES) is None


def test_a_class_of_ones_own_that_declares_nothing_is_not_checked():
    assert misfit(UOSR, {"_target_": "datamodules.base.BaseDataModule"}, CHOICES) is None
    assert misfit({"_target_": "lightning_modules.base.BasePaper"}, FOLDER, CHOICES) is None
    assert misfit(UOSR, {"_target_": "datamodules.no.Such"}, CHOICES) is None


@pytest.mark.parametrize("name", options("data"))
def test_all_data_speak_one_language(name):
    data = option(name)
    assert {"channels", "image_size", "batch_size", "seed"} <= set(data)
    assert {"num_classes"} & set(data) or "classes" not in _offers(data)
    assert ("label_sizes" in data) == ("attributes" in _offers(data))
    assert bool(data.get("has_cameras")) == ("cameras" in _offers(data))
    assert (data["channels"] == 3) == ("color images" in _offers(data) or "episodes" in _offers(data))


def _offers(data):
    from common.targets import target_class

    return target_class(data["_target_"], "data").offers


def test_facts_are_no_part_of_what_a_run_is_and_are_not_chosen():
    geod = composed(["experiment=geod"]).values
    assert geod["data"]["channels"] == 3
    assert config_identity(geod) == config_identity(geod | {"data": geod["data"] | {"channels": 1}})
    (line,) = errors("experiment=geod", "data.channels=1")
    assert line == "command line: data.channels: is a fact of these data: set the key of the model that takes it"
    (line,) = errors("experiment=geod", "data._facts_=[chanels]", "~data.families")[:1]
    assert "data" in line


def test_what_depends_on_the_data_follows_them():
    def model(*overrides):
        return composed(list(overrides)).values["model"]

    dvdp = model("experiment=dvdp", "data=picture_folder")
    assert dvdp["evaluation"]["features"] is None
    assert (dvdp["channels"], dvdp["image_size"]) == (3, 256)
    assert model("experiment=dvdp", "data=heads")["evaluation"]["features"] == "run:experiment=geod_features"
    geod = model("experiment=geod", "data=picture_folder")
    assert geod["ir_init"] is geod["evaluation"]["oracle"] is geod["evaluation"]["features"] is None
    assert (geod["ir_stop_kimg"], geod["discriminator"]["pose_conditioned"]) == (600, False)
    assert geod["triplane"]["neural_resolution"] == 256
    heads = model("experiment=geod", "seed=3")
    assert (heads["ir_init"], heads["ir_stop_kimg"]) == ("run:experiment=geod_ir seed=3", 0)
    assert model("experiment=geod_untrained", "data=picture_folder")["ir_stop_kimg"] == 0
    assert model("experiment=u_tuning", "data=fgvc")["backbone"]["weights"] is None
    assert model("experiment=u_tuning")["backbone"]["weights"] == "run:experiment=u_tuning_pretrain"
    assert model("experiment=dvdp_features", "data=heads")["label_sizes"] == [6, 3, 4, 3]
    assert model("experiment=uosr", "data.num_known=7")["num_classes"] == 7


def test_nothing_is_imported_for_it():
    code = (
        "import sys; from harness.config.load import load_checked; from common.errors import UserError\n"
        "try: load_checked(['experiment=geod', 'data=scenes'])\n"
        "except UserError as error: print(error.lines[0])\n"
        "assert not {'torch', 'datamodules', 'lightning_modules'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("command line: data: scenes offers no color images, which model=geod needs;")
