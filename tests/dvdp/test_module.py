"""The LightningModule: levels, losses, costs, what is kept in checkpoints."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from common.errors import UserError
from lightning_modules.dvdp.costs import macs_of_levels, macs_of_sampling, macs_of_training
from lightning_modules.dvdp.denoising_loss import images_at, positions_at
from lightning_modules.dvdp.module import DVDP
from networks.noise import BatchNoise
from tests.dvdp.build import awake, images, module_of


class Noise(torch.utils.data.Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, index):
        return {"image": images(1, seed=index)[0], "index": index}


class World(pl.LightningDataModule):
    test_names = ("test",)
    batch_size = 8

    def source(self, name):
        return Noise()

    def train_dataloader(self):
        return DataLoader(Noise(), batch_size=8)

    val_dataloader = test_dataloader = train_dataloader


def fit(module, tmp_path, steps=4, **more):
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_steps=steps, default_root_dir=tmp_path, **(options | more))
    trainer.fit(module, datamodule=World())
    return trainer


def test_levels_are_drawn_by_the_lengths_of_their_segments():
    # As often as uniform times would (§2.6).
    module = module_of()
    counts = torch.bincount(torch.tensor([module.drawn_level(step) for step in range(4000)]), minlength=3)
    expected = 4000 * torch.tensor([0.15, 0.2, 0.65])
    # Of two degrees of freedom: 13.8 is the one in a thousand.
    assert ((counts - expected) ** 2 / expected).sum() < 13.8
    times = module.process.draw_times(1, 4000, BatchNoise(0, 0))
    assert times.min() == 151
    assert times.max() == 350
    tenths = torch.histc(times.float(), bins=10, min=150.5, max=350.5)
    assert ((tenths - 400) ** 2 / 400).sum() < 27.9


def test_a_level_depends_on_step_and_seed_alone():
    one, other, third = module_of(), module_of(seed=7), module_of(seed=0)
    third.hparams.seed = 5
    drawn = [[module.drawn_level(step) for step in range(50)] for module in (one, other, third)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


@pytest.mark.parametrize("share", ["shared", "per_level"])
def test_gradients_reach_the_network_of_the_level_and_no_average(share):
    module = awake(module_of(network={"weight_sharing": share}))
    module.loss(images(), 1).backward()
    served = module.network.of(1)
    assert all(p.grad is not None for p in served.parameters())
    others = [n for n in module.network.networks if n is not served]
    assert len(others) == (0 if share == "shared" else 2)
    assert all(p.grad is None for n in others for p in n.parameters())
    assert not any(p.requires_grad for p in module.average.parameters())
    assert module.has_unused_parameters == (share == "per_level")


def test_attention_is_at_absolute_sizes():
    # 16 pixels folded by 2 are 8; the stages have 8 and 4 at level 0, 4 and 2 at level 1, 2 and 1 at level 2.
    module = awake(module_of(network={"attention": [4]}))
    used = []
    for name, part in module.network.named_modules():
        if type(part).__name__ == "Attention":
            part.register_forward_hook(lambda m, i, o, name=name: used.append((name, i[0].shape[-1])))
    for level, stage in ((0, "blocks.1"), (1, "blocks.0")):
        used.clear()
        module.network(torch.zeros(1, 1, 16 >> level, 16 >> level), level, torch.ones(1))
        assert used
        assert {size for _, size in used} == {4}
        assert any(f"down_{stage}" in name for name, _ in used)
    used.clear()
    module.network(torch.zeros(1, 1, 4, 4), 2, torch.ones(1))
    assert not used


def test_the_batch_is_scaled_by_level(monkeypatch):
    scale = [1, 2, 4]
    assert [positions_at(range(8), level, scale) for level in range(3)] == [[0, 4], [0, 2, 4, 6], list(range(8))]
    assert positions_at(range(6, 12), 0, scale) == [8]
    assert positions_at(range(16), 0, None) == list(range(16))
    whole = images(8)
    used, positions = images_at(whole, 1, scale)
    assert torch.equal(used, whole[::2])
    assert positions == [0, 2, 4, 6]
    monkeypatch.setattr("networks.distributed.rank", lambda: 1)
    used, positions = images_at(whole[4:], 1, scale)
    assert torch.equal(used, whole[[4, 6]])
    assert positions == [4, 6]
    # A part without any has its first.
    assert images_at(whole[1:2], 0, scale)[1] == [1]


def test_the_level_weight_scales_the_step(tmp_path):
    sgd = {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0}, "level_scale": False}
    moved = []
    for weight in (None, [2.0, 2.0, 2.0]):
        module = module_of(level_weight=weight, **sgd)
        before = module.network.networks[0].unet.conv_out.bias.detach().clone()
        pl.seed_everything(3)
        fit(module, tmp_path, steps=1)
        moved.append(module.network.networks[0].unet.conv_out.bias.detach() - before)
    assert torch.allclose(2 * moved[0], moved[1], rtol=1e-4)
    assert moved[0].abs().max() > 0


def test_costs_are_counted_and_fall_fourfold_a_level():
    # Costs are counted, not inferred from the number of steps (§2.8).
    module = module_of(image_size=64)
    levels = macs_of_levels(module.network, 1, 64, 3)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.network(torch.zeros(2, 1, 64, 64), 0, torch.ones(2))
    assert levels[0] == counter.get_total_flops() / 4
    assert levels[0] / levels[1] == pytest.approx(4, rel=0.02)
    assert macs_of_training(module.process, levels) / levels[0] == pytest.approx(0.24, abs=0.01)
    shared_out = macs_of_sampling(module.sampler(1000).visits, levels) / (1000 * levels[0])
    assert shared_out == pytest.approx(0.24, abs=0.01)


def test_a_checkpoint_keeps_deviations_average_and_samples(tmp_path):
    # Without either, samples of a loaded model would be others (§2.6).
    module = module_of()
    trainer = fit(module, tmp_path)
    # White noise in -1..1 is as strong at every level.
    assert module.deviations.tolist() == pytest.approx([3**-0.5] * 3, abs=0.02)
    assert int(module.average.n_averaged) == 4
    moved = [
        not torch.equal(a, b)
        for a, b in zip(module.average.module.parameters(), module.network.parameters(), strict=True)
    ]
    assert any(moved)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    loaded = DVDP.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True, strict=False)
    loaded.configure_model()
    loaded.load_state_dict(torch.load(tmp_path / "one.ckpt", weights_only=True)["state_dict"])
    drawn = [torch.cat(list(m.generate({"count": 4, "steps": 6, "seed": 2}))) for m in (module, loaded)]
    assert torch.equal(*drawn)
    loaded.deviations.fill_(1)
    assert not torch.equal(drawn[0], torch.cat(list(loaded.generate({"count": 4, "steps": 6, "seed": 2}))))


def test_images_do_not_depend_on_who_draws_them():
    module = awake(module_of())
    whole = list(module.generate({"count": 10, "steps": 4, "seed": None}))
    shared = [list(module._generator().images(module.sampler(4), 10, share=(rank, 2))) for rank in (0, 1)]
    assert [len(batch) for batch in whole] == [4, 4, 2]
    assert torch.equal(shared[0][0], whole[0])
    assert torch.equal(shared[1][0], whole[1])
    assert torch.equal(shared[0][1], whole[2])
    assert not torch.equal(whole[0], torch.cat(list(module.generate({"count": 4, "steps": 4, "seed": 9}))))


@pytest.mark.parametrize("method", ["ddim", "ancestral"])
def test_images_do_not_depend_on_how_many_are_drawn_at_a_time(method):
    found = []
    for batch in (4, 1, 3):
        module = awake(module_of(evaluation={"batch": batch}, sampler={"method": method}))
        found.append(torch.cat(list(module.generate({"count": 5, "steps": 4, "seed": None}))))
    assert all(torch.allclose(found[0], other, atol=1e-4) for other in found[1:])
    assert len(found[0].flatten(1).round(decimals=3).unique(dim=0)) == 5


def test_a_compiled_network_keeps_its_keys_and_its_costs():
    module = module_of()
    keys, macs = list(module.state_dict()), macs_of_levels(module.network, 1, 16, 3)
    # No backend is asked for: that of the test does nothing but run the graph.
    for network in module.network.networks:
        network.compile(dynamic=False, backend="eager")
    for level in range(3):
        module.network(torch.zeros(1, 1, 16 >> level, 16 >> level), level, torch.ones(1))
    assert list(module.state_dict()) == keys
    assert macs_of_levels(module.network, 1, 16, 3) == macs


def test_training_compiles_when_asked_to(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: asked.append(options))
    fit(module_of(compile=True), tmp_path, steps=1)
    # The network and its average.
    assert asked == [{"dynamic": False}] * 2


def test_bf16_trains_and_draws_in_float32(tmp_path):
    module = module_of()
    fit(module, tmp_path, precision="bf16-mixed", limit_val_batches=0)
    assert module.network.networks[0].unet.conv_in.weight.dtype == torch.float32
    (drawn,) = module.generate({"count": 2, "steps": 3, "seed": None})
    assert drawn.dtype == torch.float32
    assert torch.isfinite(drawn).all()


@pytest.mark.parametrize("more", [{"channels_last": True}, {"network": {"gradient_checkpointing": True}}])
def test_layout_and_checkpointing_change_nothing_that_matters(more):
    losses = []
    first, second = awake(module_of()), module_of(**more)
    second.load_state_dict(first.state_dict())
    for module in (first, second):
        module.train()
        loss = module.loss(images(), 0)
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_first_five_losses_are_golden():
    module = module_of()
    optimizer = torch.optim.AdamW(module.network.parameters(), lr=2e-3)
    found = []
    for step in range(5):
        loss = module.loss(images(8, seed=step), module.drawn_level(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found == pytest.approx([0.60246, 0.35377, 0.39107, 0.41148, 0.40146], rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"image_size": 20}, "multiple of 16"),
        ({"level_weight": [1.0]}, "should be 3 numbers"),
        ({"batch_scale": [1, 2]}, "should be 3 numbers"),
        ({"sampler": {"steps": 2}}, "should be 3"),
        ({"evaluation": {"curve_steps": [2000]}}, "to 1000"),
        ({"network": {"channels": [6, 12]}}, "multiple of norm_num_groups"),
        ({"network": {"channels": [8, 12], "attention": [4]}}, "network.head_channels"),
        ({"network": {"channels": []}}, "at least one stage"),
    ],
)
def test_what_makes_no_model_is_refused_in_one_line(changes, word):
    with pytest.raises(UserError, match=word) as error:
        module_of(**changes)
    assert "\n" not in str(error.value)
