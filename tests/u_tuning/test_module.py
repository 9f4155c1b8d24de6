"""The tuning module through a real trainer: every tuner trains what it should and nothing else, and its checkpoints."""

import copy

import pytest
import pytorch_lightning as pl
import timm
import torch
from safetensors.torch import load_file

from common.errors import UserError
from lightning_modules.u_tuning.module import UTuning
from tests.u_tuning.build import CLASSES, TUNERS, World, module_of, trainer, tuner_config

# Training losses of five steps, recorded from this code on the CPU.
GOLDEN = {
    None: [1.3825, 2.9657, 2.1021, 2.0858, 2.3975],
    "u_block": [1.3825, 2.0689, 1.7107, 1.5401, 1.6412],
    "lora": [1.3825, 1.6436, 1.4972, 1.4013, 1.6734],
}
IN_PLACE = {"full", "bitfit"}
MERGING = {"full", "linear", "bitfit", "ssf", "lora"}


class Watch(pl.Callback):
    """Keeps the losses, and whether the backbone was in training mode within a step."""

    def __init__(self):
        self.losses, self.training = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.manual_seed(trainer.global_step)
        self.training.append(pl_module.tunable.training)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Return the checkpoint of a trained backbone, as a run leaves it."""
    folder = tmp_path_factory.mktemp("backbone")
    lightning = trainer(folder, epochs=3)
    lightning.fit(module_of(), World())
    lightning.save_checkpoint(folder / "best.ckpt")
    return str(folder / "best.ckpt")


def tuned(tuner, weights, folder, **changes):
    """Train a tuner on the backbone; return module, trainer and what was watched."""
    module, watch = module_of(tuner, backbone={"name": "glyph_vit", "weights": weights}, **changes), Watch()
    lightning = trainer(folder, epochs=3, callbacks=[watch])
    lightning.fit(module, World())
    return module, lightning, watch


@pytest.mark.parametrize("tuner", list(GOLDEN))
def test_golden_losses_of_five_steps(tuner, tmp_path):
    watch = Watch()
    trainer(tmp_path, max_steps=5, limit_val_batches=0, callbacks=[watch]).fit(module_of(tuner), World())
    assert watch.losses == pytest.approx(GOLDEN[tuner], abs=2e-4)


@pytest.mark.parametrize("tuner", TUNERS)
def test_head_and_tuner_move_and_the_backbone_does_not(tuner, weights, tmp_path):
    module, lightning, watch = tuned(tuner, weights, tmp_path)
    before = torch.load(weights, weights_only=True)["state_dict"]
    after = {key: value for key, value in module.state_dict().items() if key in before}
    moved = {key for key in after if key.startswith("backbone.") and not torch.equal(before[key], after[key])}
    if tuner == "full":
        assert moved == {key for key in after if key.startswith("backbone.")}
    elif tuner == "bitfit":
        assert moved
        assert all(key.endswith("bias") for key in moved)
    else:
        assert not moved
    assert module.head.weight.abs().max() > 0
    assert watch.training == [tuner == "full"] * len(watch.training)
    trained = {id(p) for group in lightning.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(p) for p in module.trained_parameters()}
    assert lightning.callback_metrics["val/acc"] >= 0


@pytest.mark.parametrize("tuner", TUNERS)
def test_every_trained_tensor_of_a_tuner_has_moved_after_a_few_steps(tuner, weights, tmp_path):
    torch.manual_seed(0)
    module = module_of(tuner, backbone={"name": "glyph_vit", "weights": weights})
    module.prepare(load=True)
    before = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}
    lightning = trainer(tmp_path, max_steps=3, limit_val_batches=0)
    lightning.fit(module, World())
    still = [name for name, p in module.named_parameters() if p.requires_grad and torch.equal(before[name], p)]
    assert not still


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_checkpoint_holds_tuner_and_head_and_needs_nothing_but_its_path(tuner, weights, tmp_path):
    module, lightning, _ = tuned(tuner, weights, tmp_path)
    lightning.save_checkpoint(tmp_path / "best.ckpt", weights_only=True)
    stored = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    kept = {key for key in stored if key.startswith("backbone.")}
    if tuner == "full":
        assert len(kept) == len(module.tunable.state_dict())
    else:
        size, whole = (tmp_path / "best.ckpt").stat().st_size, sum(v.nbytes for v in module.state_dict().values())
        assert size < 0.5 * whole
    loaded = UTuning.load_from_checkpoint(tmp_path / "best.ckpt", weights_only=True).eval()
    images = next(iter(World().test_dataloader()))["image"]
    assert torch.equal(loaded(images), module.eval()(images))


def test_a_tuner_on_an_untrained_backbone_keeps_it_in_its_checkpoint(tmp_path):
    module = module_of("u_block")
    lightning = trainer(tmp_path)
    lightning.fit(module, World())
    lightning.save_checkpoint(tmp_path / "best.ckpt")
    torch.manual_seed(5)
    loaded = UTuning.load_from_checkpoint(tmp_path / "best.ckpt", weights_only=True).eval()
    images = next(iter(World().test_dataloader()))["image"]
    assert torch.equal(loaded(images), module.eval()(images))


def test_another_backbone_is_refused(weights, tmp_path):
    _, lightning, _ = tuned("u_block", weights, tmp_path)
    lightning.save_checkpoint(tmp_path / "best.ckpt")
    other = trainer(tmp_path)
    other.fit(module_of(seed=3), World())
    other.save_checkpoint(weights)
    with pytest.raises(UserError, match="was trained on another backbone"):
        UTuning.load_from_checkpoint(tmp_path / "best.ckpt", weights_only=True)


def test_a_tuner_that_is_cut_off_is_an_error(weights, tmp_path):
    module = module_of("u_block", backbone={"name": "glyph_vit", "weights": weights})
    module.prepare(load=True)
    module.tuner.register_parameter("lost", torch.nn.Parameter(torch.zeros(3)))
    with pytest.raises(UserError, match="no gradient reaches lost"):
        trainer(tmp_path).fit(module, World())


def test_the_tuners_rate_is_used_and_only_kernels_decay(weights, tmp_path):
    _, lightning, _ = tuned("u_block", weights, tmp_path)
    groups = lightning.optimizers[0].param_groups
    assert {group["initial_lr"] for group in groups} == {tuner_config("u_block")["lr"]}
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    assert all(p.ndim >= 2 for p in groups[0]["params"])
    assert all(p.ndim == 1 for p in groups[1]["params"])


@pytest.mark.parametrize("tuner", sorted(MERGING))
def test_the_merged_checkpoint_is_a_plain_one(tuner, weights, tmp_path):
    module, lightning, _ = tuned(tuner, weights, tmp_path, merge=True)
    lightning.test(module, World(), verbose=False)
    merged = load_file(tmp_path / "checkpoints" / "merged.safetensors")
    shape = {"patch_size": 4, "embed_dim": 96, "depth": 6, "num_heads": 4}
    plain = timm.models.VisionTransformer(img_size=16, in_chans=1, num_classes=CLASSES, **shape).eval()
    plain.load_state_dict(merged, strict=True)
    images = next(iter(World().test_dataloader()))["image"]
    assert torch.allclose(plain(images), module.eval()(images), atol=1e-5)


def test_what_cannot_be_merged_says_so(weights, tmp_path):
    module, lightning, _ = tuned("u_block", weights, tmp_path, merge=True)
    with pytest.raises(UserError, match="has no plain form"):
        lightning.test(module, World(), verbose=False)


def test_a_copy_is_tuned_by_its_own_tuner(weights):
    module = module_of("u_block", backbone={"name": "glyph_vit", "weights": weights})
    module.prepare(load=True)
    torch.nn.init.ones_(module.head.weight[:1])
    images = next(iter(World().test_dataloader()))["image"]
    before, copied = module.eval()(images), copy.deepcopy(module)
    with torch.no_grad():
        for parameter in copied.tuner.parameters():
            parameter.add_(1.0)
    assert torch.equal(module(images), before)
    assert not torch.equal(copied.eval()(images), before)
