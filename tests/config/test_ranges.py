"""Numbers that make no run are refused before it, with the key, the value and what it should be."""

import ast

import pytest

from common.errors import UserError
from common.ranges import ALIASES
from harness.config.load import load_checked
from harness.core.paths import ROOT

WHOLE, NUMBER = "should be a whole number", "should be a number"
BAD = {
    "data.batch_size=0": f"is 0, {WHOLE}, at least 1",
    "data.batch_size=9000": "is 9000, but data.train_size is 8000, fewer than one batch: lower data.batch_size",
    "data.num_workers=-1": f"is -1, {WHOLE}, at least 0",
    "data.train_size=0": f"is 0, {WHOLE}, at least 1",
    "data.image_size=-32": f"is -32, {WHOLE}, at least 1",
    "model.optimizer.lr=nan": f"is nan, {NUMBER} above 0",
    "model.optimizer.lr=inf": f"is inf, {NUMBER} above 0",
    "model.optimizer.lr=-1e-3": f"is -0.001, {NUMBER} above 0",
    "model.optimizer.weight_decay=-1": f"is -1, {NUMBER}, at least 0",
    "model.optimizer.momentum=1": f"is 1, {NUMBER}, at least 0 and below 1",
    "model.schedule.warmup_ratio=1.5": f"is 1.5, {NUMBER}, at least 0 and at most 1",
    "model.shots=[0,5]": f"is [0, 5], should be a list in which each is {WHOLE.removeprefix('should be ')}, at least 1",
    "model.lc.budget=-0.1": f"is -0.1, {NUMBER}, at least 0 or null",
    "model.energy.m_in=nan": "is nan, should be a finite number",
    "trainer.accumulate_grad_batches=0": f"is 0, {WHOLE}, at least 1",
    "trainer.gradient_clip_val=-1": f"is -1, {NUMBER}, at least 0 or null",
    "trainer.gradient_clip_val=nan": f"is nan, {NUMBER}, at least 0 or null",
    "trainer.max_epochs=-2": f"is -2, {WHOLE}, at least -1 or null",
    "trainer.max_steps=-5": f"is -5, {WHOLE}, at least -1",
    "trainer.limit_train_batches=0": f"is 0, {WHOLE}, at least 1 or",
    "trainer.limit_val_batches=1.5": f"is 1.5, {WHOLE}, at least 0 or a number, at least 0 and at most 1 or null",
    "trainer.val_check_interval=-1": "is -1, should be",
    "trainer.check_val_every_n_epoch=0": f"is 0, {WHOLE}, at least 1 or null",
    "trainer.log_every_n_steps=-1": f"is -1, {WHOLE}, at least 0",
    "hardware.precision=bf8": "is 'bf8', should be one of 64, 32, 16, bf16,",
    "hardware.devices=0": f"is 0, {WHOLE}, at least 1",
    "hardware.threads=0": f"is 0, {WHOLE}, at least 1",
    "seeds=0": "is 0, should be at least 1",
    "callbacks.resume.every_seconds=nan": f"is nan, {NUMBER}, at least 0",
}
# Of other experiments.
MORE = {
    ("u_tuning", "tuner.lr=nan"): f"is nan, {NUMBER} above 0",
    ("u_tuning", "tuner.specs.0.scale=nan"): "is nan, should be a finite number",
    ("u_tuning_glyphs", "tuner.specs.0.dim=0"): f"is 0, {WHOLE}, at least 1",
    ("u_tuning", "model.label_smoothing=-0.1"): f"is -0.1, {NUMBER}, at least 0 and at most 1",
    ("geod", "model.evaluation.images_per_pose=1"): f"is 1, {WHOLE}, at least 2",
    ("geod", "model.poses.fov=180"): f"is 180, {NUMBER} above 0 and below 180",
    ("geod", "model.guidance.interval=0"): f"is 0, {WHOLE}, at least 1",
    ("dvdp", "model.process.delta=0"): f"is 0, {NUMBER} above 0 and at most 1",
    ("dvdp", "model.ema=1"): f"is 1, {NUMBER}, at least 0 and below 1",
    ("clip_fsar", "data.ways=1"): f"is 1, {WHOLE}, at least 2",
    ("clip_fsar", "model.alignment.smoothness=1e-4"): f"is 0.0001, {NUMBER}, at least 0.001",
    ("linkgan", "data.image_size=8"): f"is 8, {WHOLE}, at least 16",
    ("linkgan", "model.link.interval=0"): f"is 0, {WHOLE}, at least 1",
    ("linkgan", "model.link.lambda_in=-1"): f"is -1, {NUMBER}, at least 0",
    ("linkgan", "model.style_mixing=1.5"): f"is 1.5, {NUMBER}, at least 0 and at most 1",
    ("linkgan_objects", "model.segmenter.size=0"): f"is 0, {WHOLE}, at least 1",
    ("neural_dependency", "model.analysis.tolerance=0"): f"is 0, {NUMBER} above 0",
}


@pytest.mark.parametrize(("experiment", "word"), [*(("uosr", word) for word in BAD), *MORE])
def test_one_line_names_key_value_and_range(experiment, word):
    with pytest.raises(UserError) as error:
        load_checked([f"experiment={experiment}", word])
    (line,) = error.value.lines
    said = BAD.get(word) or MORE[experiment, word]
    assert line.startswith(f"command line: {word.partition('=')[0]}: {said}")


def test_all_are_told_at_once():
    with pytest.raises(UserError) as error:
        load_checked(["experiment=uosr", "model.optimizer.lr=nan", "data.num_workers=-1", "hardware.threads=0"])
    assert len(error.value.lines) == 3


def test_a_value_taken_from_another_key_is_told_of_where_it_is_given():
    with pytest.raises(UserError) as error:
        load_checked(["experiment=uosr", "data.image_size=-32", "model.num_classes=${runs}"])
    given, taken = error.value.lines
    assert given == f"command line: data.image_size: is -32, {WHOLE}, at least 1"
    assert taken == f"command line: model.num_classes: is 'runs', {WHOLE}, at least 1"


def test_good_numbers_pass():
    words = ["trainer.limit_train_batches=0.5", "trainer.max_epochs=-1", "trainer.max_steps=10", "data.num_workers=2"]
    words += ["hardware.precision=bf16-mixed", "trainer.gradient_clip_val=1", "trainer.val_check_interval=0.25"]
    assert load_checked(["experiment=uosr", *words, "model.lc.budget=null"])


def test_numbers_of_options_say_what_they_may_be():
    # Every number of a paper's options or of a constructor that a config names; margins of energy are any number.
    free = {"m_in", "m_out", "scale", "max_noise_std", "threshold"}
    bare = [
        (path.stem, node.name, item.target.id)
        for root in ("lightning_modules", "networks", "tuners")
        for path in (ROOT / root).rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and any("TypedDict" in ast.unparse(base) for base in node.bases)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and ast.unparse(item.annotation).split(" | ")[0] in {"int", "float"}
    ]
    # The types of a module's own `options` repeat its constructor, which is where ranges stand.
    own = {
        "Options",
        "CLIPFSAROptions",
        "MiniCLIPOptions",
        "DVDPOptions",
        "GeoDOptions",
        "OracleTrainingOptions",
        "PretrainOptions",
        "ConesOptions",
        "UnionOptions",
    }
    own |= {"LinkGANOptions", "SegmenterTrainingOptions"}
    assert [place for place in bare if place[1] not in own and place[2] not in free] == []
    assert len(ALIASES) == 8
