"""Networks that are only read: ImageNet's folders and logits from a file, from the door to the table."""

import numpy as np
import pytest

from tests.cli.quire import call, only_folder, quire, read
from tests.datamodules.miniature_imagenet import WNIDS, imagenet
from tests.neural_dependency.synthetic import logits

NETWORK = ("model.network.name=test_resnet", "model.network.weights=null", "data.image_size=32", "data.batch_size=4")


def test_imagenet_from_folders_to_table(tmp_path):
    imagenet(tmp_path / "data", val=24)
    words = ("experiment=neural_dependency_imagenet", "debug=tiny", *NETWORK, f"data.num_classes={len(WNIDS)}")
    done = quire(*words, "trainer.limit_test_batches=null", f"data.root={tmp_path / 'data'}", f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = read(only_folder(tmp_path, "neural_dependency_imagenet") / "result.json")["metrics"]
    assert metrics["test/categories"] == len(WNIDS)
    assert metrics["test/centred/alpha_0.01/kkt"] < 0.01


def test_missing_pictures_are_one_line_with_the_layout(tmp_path):
    done = call("experiment=neural_dependency_imagenet", f"data.root={tmp_path}", f"runs={tmp_path}", "mode=check")
    assert done.returncode == 2
    assert "wnid" in done.stderr
    assert "Traceback" not in done.stderr


def test_logits_from_a_file(tmp_path):
    values, labels, _ = logits(600)
    np.savez(tmp_path / "logits.npz", logits=values.numpy(), labels=labels.numpy())
    words = ("experiment=neural_dependency_logits", f"data.path={tmp_path / 'logits.npz'}", "data.num_classes=24")
    done = quire(*words, f"runs={tmp_path}", "hardware=cpu", "logger=local")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path, "neural_dependency_logits")
    metrics = read(folder / "result.json")["metrics"]
    assert 0 < metrics["test/sparse"] < metrics["test/control/shuffled/sparse"]
    assert (folder / "dependencies" / "centred.npz").is_file()
    again = quire(*words, f"runs={tmp_path}", "hardware=cpu", "logger=local")
    assert "finished before" in again.stdout


@pytest.mark.full
def test_many_categories_of_a_head(tmp_path):
    words = ("experiment=neural_dependency", "debug=tiny", "model.solver=head", "model.analysis.controls=[]")
    done = quire(*words, "model.analysis.alphas=[0.3]", "model.analysis.alpha=0.3", f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_folder(tmp_path, "neural_dependency")
    metrics = read(folder / "result.json")["metrics"]
    assert metrics["test/head/alpha_0.3/nonzero"] > 0
    assert metrics["test/features"] == 256
    assert (folder / "dependencies" / "head.npz").is_file()


@pytest.mark.full
@pytest.mark.parametrize("tuner", ["u_block", "linear"])
def test_a_tuner_goes_with_it(tuner, tmp_path):
    done = quire("experiment=neural_dependency", "debug=tiny", f"tuner={tuner}", f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
