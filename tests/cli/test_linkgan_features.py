"""The networks behind the Fréchet distance of rendered faces and objects: tiny runs from the command line."""

import json

import pytest
import torch

from networks.label_features import load_label_features
from tests.cli.quire import only_folder, quire
from tests.tiers import full

LABELS = {"linkgan_features": 11, "linkgan_objects_features": 9}


@pytest.mark.parametrize("experiment", ["linkgan_features", *full("linkgan_objects_features")])
def test_the_features_of_a_world_are_trained_and_load(experiment, tmp_path):
    done = quire(f"experiment={experiment}", "debug=tiny", f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path, experiment)
    assert json.loads((folder / "result.json").read_text())["metrics"]["test/acc"] > 0
    network = load_label_features(str(folder / "checkpoints" / "best.ckpt"), 3)
    assert network is not None
    assert len(network.logits(torch.zeros(2, 3, 16, 16))) == LABELS[experiment]
