"""Training of the small segmenter on the renderer's truth."""

import pytest
import pytorch_lightning as pl
import torch

from datamodules.worlds.faces import CLASSES
from lightning_modules.linkgan.segmenter_module import SegmenterTraining
from tests.linkgan.build import Faces, trainer_of


def module_of(**changes):
    optimizer = {"name": "adamw", "lr": 1e-2, "weight_decay": 0.0, "momentum": 0.0}
    options = {"in_channels": 3, "classes": list(CLASSES), "width": 8, "max_noise_std": 0.1, "seed": 0}
    torch.manual_seed(0)
    return SegmenterTraining(**(options | {"optimizer": optimizer, "schedule": {"warmup_ratio": 0.0}} | changes))


def test_it_learns_the_classes_of_pixels_and_its_checkpoint_needs_nothing_else(tmp_path):
    module, trainer, accuracies = module_of(), trainer_of(tmp_path, batches=8, max_epochs=6), []
    pl.seed_everything(0)
    module.configure_model()
    for stage in ("before", "after"):
        if stage == "after":
            trainer.fit(module, datamodule=Faces())
        (found,) = trainer_of(tmp_path).test(module, datamodule=Faces(), verbose=False)
        accuracies.append(found["test/acc"])
    assert accuracies[1] > accuracies[0] + 20
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    again = SegmenterTraining.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    image = Faces().source("val").fetch(range(4))["image"]
    assert torch.equal(again.network(image), module.network(image))


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="max_noise_std is -1"):
        module_of(max_noise_std=-1)
