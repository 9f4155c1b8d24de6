"""Reading what runs of other papers have trained, tuner included."""

import json

import pytest
import torch

from common.errors import UserError
from lightning_modules import trained_run
from lightning_modules.neural_dependency.earlier_run import load_run
from lightning_modules.neural_dependency.module import NeuralDependency
from tests.cli.quire import only_folder, quire, read
from tests.neural_dependency.build import module_of, options
from tests.tiers import full

READ = ("experiment=neural_dependency", "debug=tiny", "model.network.name=run", "model.train_network=false")


@pytest.mark.parametrize(
    ("experiment", "words"),
    [
        ("u_tuning", ("data=shapes_closed", "model.backbone.weights=null", "tuner=u_block")),
        *full(
            ("u_tuning", ("data=shapes_closed", "model.backbone.weights=null", "tuner=lora")),
            ("uosr", ("data.num_known=8",)),
        ),
    ],
)
def test_a_run_of_another_paper(experiment, words, tmp_path):
    first = quire(f"experiment={experiment}", "debug=tiny", *words, f"runs={tmp_path}")
    assert first.returncode == 0, first.stdout + first.stderr
    folder = only_folder(tmp_path, experiment)
    count = json.loads((folder / "lock.json").read_text())["config"]["model"]["num_classes"]
    words = (f"model.network.weights={folder}", "model.analysis.controls=[]", f"data.num_classes={count}")
    done = quire(*READ, *words, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = read(only_folder(tmp_path, "neural_dependency") / "result.json")["metrics"]
    if experiment == "u_tuning":
        # The same images, so the same network.
        assert metrics["test/acc"] == pytest.approx(read(folder / "result.json")["metrics"]["test/acc"])
    assert metrics["test/sparse"] > 0


def run_with(folder, target, checkpoint):
    (folder / "checkpoints").mkdir()
    torch.save(checkpoint, folder / "checkpoints" / "best.ckpt")
    (folder / "lock.json").write_text(json.dumps({"config": {"model": {"_target_": target}}}))


def test_logits_are_those_of_the_run(tmp_path):
    module = module_of(analysis={"controls": []})
    module.configure_model()
    module.eval()
    target = "lightning_modules.neural_dependency.module.NeuralDependency"
    parts = {"state_dict": module.state_dict(), "hyper_parameters": options(analysis={"controls": []})}
    run_with(tmp_path, target, parts)
    images = torch.randn(3, 3, 16, 16)
    read_again = load_run(str(tmp_path), 8)
    assert torch.equal(read_again(images), module(images))
    assert not any(p.requires_grad for p in read_again.parameters())
    with pytest.raises(UserError, match="knows 8 categories, not 9"):
        load_run(str(tmp_path / "checkpoints" / "best.ckpt"), 9)


def test_what_is_no_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        load_run(str(tmp_path), 8)
    with pytest.raises(UserError, match="name the run's folder"):
        load_run(None, 8)
    with pytest.raises(ValueError, match="is only read"):
        NeuralDependency(**options(network={"name": "run", "weights": str(tmp_path)}))


class Headless(torch.nn.Module):
    def configure_model(self):
        """Build nothing."""

    def on_load_checkpoint(self, checkpoint):
        """Take nothing."""


def test_a_run_without_a_linear_head_is_one_line(tmp_path, monkeypatch):
    # Only modules under lightning_modules/ are allowed targets.
    monkeypatch.setattr(trained_run, "target_class", lambda target, key: Headless)
    run_with(tmp_path, f"{__name__}.Headless", {"state_dict": {}, "hyper_parameters": {}})
    with pytest.raises(UserError, match="no linear head"):
        load_run(str(tmp_path), 8)
