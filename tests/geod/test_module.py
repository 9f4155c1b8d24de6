"""The LightningModule: three networks, what is trained when, what is kept, and what is generated."""

import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from common.errors import UserError
from lightning_modules.geod.evaluation.figures import Views, samples_figure
from lightning_modules.geod.evaluation.oracle import NormalOracle
from lightning_modules.geod.inverse.reconstruction_loss import inverse_loss
from lightning_modules.geod.inverse_module import InverseRendering
from lightning_modules.geod.module import GeoD
from lightning_modules.geod.options import trains_inverse_renderer
from tests.geod.build import SMALL, Heads, merged, module_of, plain

# Losses of the first four batches of `test_golden_losses`.
GOLDEN = {
    "ir_loss": [1.0290, 0.9243, 0.6907, 0.5961],
    "g_loss": [0.7317, 0.7227, 0.7466, 0.7478],
    "d_loss": [1.3479, 1.3451, 1.3590, 1.3458],
    "guidance": [1.4821, 1.4477, 1.3938],
}
NOW = {"gamma_end": 1.0, "start_kimg": 0.0, "end_kimg": 0.0}


def fit(module, tmp_path, batches=3, **more):
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options |= {"max_epochs": 1, "limit_train_batches": batches, "limit_val_batches": 0}
    trainer = pl.Trainer(default_root_dir=tmp_path, **(options | more))
    pl.seed_everything(0)
    trainer.fit(module, datamodule=Heads())
    return trainer


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, after):
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_without_weight_guidance_changes_nothing_step_for_step(tmp_path):
    # The baseline is the same class with the method's switch off.
    off = module_of(guidance={"gamma_end": 0.0})
    idle = module_of(guidance=NOW | {"start_kimg": 9.0, "end_kimg": 9.0}, ir_stop_kimg=9.0)
    on = module_of(guidance=NOW)
    for name, module in (("off", off), ("idle", idle), ("on", on)):
        fit(module, tmp_path / name, batches=4)
    assert off.networks.inverse_renderer is None
    assert idle.networks.inverse_renderer is not None
    for name in ("generator", "discriminator"):
        one, other = (getattr(module.networks, name).parameters() for module in (off, idle))
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    one, other = (module.networks.generator.parameters() for module in (off, on))
    assert any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_inverse_renderer_is_not_trained_by_the_generators_step(tmp_path):
    module = module_of(guidance=NOW)
    before = state(module)
    fit(module, tmp_path)
    moved = changed(before, module.state_dict())
    assert "inverse_renderer" not in moved
    assert moved >= {"generator", "discriminator", "average", "images_seen"}
    joint = module_of(guidance=NOW, ir_stop_kimg=0.012)
    before = state(joint)
    fit(joint, tmp_path / "joint")
    assert "inverse_renderer" in changed(before, joint.state_dict())


def test_steps_of_one_network_leave_the_others_alone(tmp_path, monkeypatch):
    module = module_of(guidance=NOW, ir_stop_kimg=1.0)
    seen = {}

    def watched(name):
        original = getattr(GeoD, name)

        def step(module, *arguments):
            before = state(module)
            original(module, *arguments)
            seen[name] = changed(before, module.state_dict())

        return step

    for name in ("inverse_renderer_step", "generator_step", "discriminator_step"):
        monkeypatch.setattr(GeoD, name, watched(name))
    fit(module, tmp_path, batches=1)
    assert list(seen) == ["inverse_renderer_step", "generator_step", "discriminator_step"]
    assert seen["inverse_renderer_step"] == {"inverse_renderer"}
    assert seen["generator_step"] == {"generator"}
    # The average of w follows whatever is generated.
    assert seen["discriminator_step"] - {"generator"} == {"discriminator"}


def test_the_inverse_renderer_sees_real_images_and_no_others(tmp_path, monkeypatch):
    module, inputs = module_of(guidance=NOW, ir_stop_kimg=1.0), []
    monkeypatch.setattr(
        "lightning_modules.geod.module.inverse_loss",
        lambda prediction, *more: inputs.append(prediction.image) or inverse_loss(prediction, *more),
    )
    fit(module, tmp_path, batches=2)
    real = Heads().source("fit").fetch(range(16))["image"]
    assert torch.equal(torch.cat(inputs), real)


def test_the_inverse_renderer_stops_after_its_images(tmp_path):
    module = module_of(ir_stop_kimg=0.016)
    trainer = fit(module, tmp_path, batches=3)
    steps = {int(s["step"]) for s in trainer.optimizers[2].state.values()}
    assert steps == {2}
    assert int(module.networks.images_seen) == 24


def test_latents_depend_on_seed_and_batch_and_are_shared_over_ranks(monkeypatch):
    module = module_of()
    batch = {"image": torch.zeros(6, 3, 32, 32)}
    together = module.draw(batch, "generator")
    assert torch.equal(module.draw(batch, "generator").z, together.z)
    assert not torch.equal(module.draw(batch, "discriminator").z, together.z)
    assert not torch.equal(together.camera, together.other)
    parts = []
    for rank in range(2):
        monkeypatch.setattr("networks.distributed.rank", lambda rank=rank: rank)
        parts.append(module.draw({"image": batch["image"][:3]}, "generator"))
    for name in ("z", "camera", "other"):
        both = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(both, getattr(together, name))
    module.networks.batches_seen += 1
    assert not torch.equal(module.draw(batch, "generator").z, together.z)


def test_the_geometry_branch_moves_no_draw_and_no_weight_of_the_others(tmp_path):
    without = module_of(guidance={"gamma_end": 0.0})
    branch = module_of(guidance=NOW, ir_stop_kimg=1.0, nvs={"kind": "warp"})
    assert without.networks.inverse_renderer is None
    assert branch.networks.inverse_renderer is not None
    batch, found = {"image": torch.zeros(4, 3, 32, 32)}, []
    for module in (without, branch):
        drawn = module.draw(batch, "generator")
        generator = module.networks.generator
        noise, jitter = drawn.synthesis_noise(generator.noise_sides), drawn.noise.part("rendering")
        found.append((drawn.z, drawn.camera, generator(drawn.z, drawn.camera, jitter=jitter, noise=noise).image))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    for name in ("generator", "discriminator", "average"):
        one, other = (getattr(module.networks, name).state_dict() for module in (without, branch))
        assert all(torch.equal(one[key], other[key]) for key in one)
    losses = []
    for module in (without, branch):
        fit(module, tmp_path, batches=1)
        losses.append(module.latest)
    # The first step of both is drawn alike, whatever else the branch's draws.
    assert losses[0]["g_loss"] == losses[1]["g_loss"]
    assert losses[1]["novel_view"] > 0


def test_r1_and_density_have_their_steps(tmp_path):
    module = module_of(regularization={"r1_interval": 2, "density_weight": 0.25, "density_interval": 3})
    trainer = fit(module, tmp_path, batches=4)
    steps = [max(int(s["step"]) for s in optimizer.state.values()) for optimizer in trainer.optimizers]
    # Four batches; density after the first and the fourth, R1 after the first and the third.
    assert steps == [6, 6]


def test_r1_of_every_step_is_part_of_the_loss(tmp_path):
    module = module_of(regularization={"r1_interval": 1, "density_weight": 0.0})
    trainer = fit(module, tmp_path, batches=4)
    critic = trainer.optimizers[1]
    assert max(int(s["step"]) for s in critic.state.values()) == 4
    assert critic.defaults["lr"] == 2e-3


def test_a_checkpoint_needs_nothing_else(tmp_path):
    module = module_of(guidance=NOW, ir_stop_kimg=1.0)
    trainer = fit(module, tmp_path, batches=2)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    again = GeoD.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    assert not changed(module.state_dict(), again.state_dict())
    content = torch.load(tmp_path / "one.ckpt", weights_only=True)
    assert len(content["optimizer_states"]) == 3
    assert int(content["state_dict"]["images_seen"]) == 16
    # Networks that come from files, metrics and oracles are no part of it.
    kinds = {name.split(".")[0] for name in content["state_dict"]}
    assert kinds == {"generator", "discriminator", "average", "inverse_renderer", "images_seen", "batches_seen"}


def test_golden_losses(tmp_path):
    module, seen = module_of(guidance=NOW | {"end_kimg": 0.02}, ir_stop_kimg=1.0), []
    module.log_dict = lambda values, **_: seen.extend((name, float(value)) for name, value in values.items())
    fit(module, tmp_path, batches=4)
    found = {name: [value for key, value in seen if key == name] for name, _ in seen}
    assert found["train/gamma"] == pytest.approx([0, 0.4, 0.8, 1.0])
    # Measured when this was written: a change of any step shows.
    for name, values in GOLDEN.items():
        assert found[f"train/{name}"] == pytest.approx(values, rel=0.02), name
    # Without weight nothing is predicted.
    assert len(found["train/guidance"]) == 3
    assert len(set(found["train/r1"])) == 1
    assert all(math.isfinite(value) for values in found.values() for value in values)
    assert found["train/ir_loss"][0] > found["train/ir_loss"][-1]


def test_trained_networks_are_where_it_starts(tmp_path):
    branch = InverseRendering(**merged(plain("geod_ir"), {"inverse_renderer": SMALL["inverse_renderer"]}))
    branch.configure_model()
    torch.save({"state_dict": branch.state_dict()}, tmp_path / "branch.ckpt")
    module = module_of(guidance=NOW, ir_init=str(tmp_path / "branch.ckpt"))
    torch.save(module_of(seed=5).networks.generator.state_dict(), tmp_path / "generator.pt")
    module.hparams.generator_init = str(tmp_path / "generator.pt")
    module.load_pretrained()
    loaded = module.networks.inverse_renderer.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in branch.inverse_renderer.state_dict().items())
    torch.save(module_of(seed=6).networks.discriminator.state_dict(), tmp_path / "critic.pt")
    module.hparams.discriminator_init = str(tmp_path / "critic.pt")
    module.load_pretrained()
    loaded, expected = module.networks.discriminator.state_dict(), module_of(seed=6).networks.discriminator.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in expected.items())
    one, average = module.networks.generator.state_dict(), module.networks.average.module.state_dict()
    assert all(torch.equal(value, average[name]) for name, value in one.items())
    for content, words in (("none.pt", "no file"), ("branch.ckpt", "another network")):
        module.hparams.generator_init = str(tmp_path / content)
        with pytest.raises(UserError, match=words):
            module.load_pretrained()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"triplane": None}, "one of triplane and pigan"),
        ({"geometry": "pretrained", "nvs": {"kind": "warp"}}, "needs geometry=unsup3d"),
        ({"triplane": {"plane_size": 48}}, "plane_size is 48, should be a power of two"),
        ({"image_size": 48, "triplane": {"neural_resolution": 48}}, "data.image_size is 48"),
        ({"geometry": "pretrained", "guidance": NOW}, "no depth model at None; expected a folder"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        _ = module_of(**changes).networks.predictor


@pytest.mark.parametrize("kind", ["warp", "reproject"])
def test_novel_views_are_a_task_of_their_own(kind, tmp_path):
    module = module_of(guidance=NOW, nvs={"kind": kind})
    fit(module, tmp_path, batches=1)
    assert module.latest["novel_view"] > 0


def test_samples_are_the_moving_averages_and_depend_on_their_index_alone(tmp_path):
    module = module_of()
    with torch.no_grad():
        for parameter in module.networks.generator.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    samples, average = module.networks.samples(), module.networks.average.module.eval()
    z, cameras = samples.latents(range(3)), samples.cameras(range(3))
    (found,) = samples.images(range(3))
    assert torch.equal(found, average(z, cameras).image)
    assert not torch.allclose(found, module.networks.generator.eval()(z, cameras).image, atol=0.01)
    (more,) = samples.images(range(5))
    assert torch.allclose(more[:3], found, atol=1e-5)
    # Nothing in the pictures is drawn at random either.
    views = [samples_figure(Views(samples.generator, z, module.hparams.poses, None)) for _ in range(2)]
    assert np.array_equal(*views)


def test_the_oracle_is_no_part_of_what_it_judges(tmp_path):
    oracle = NormalOracle(8)
    state = {f"oracle.{name}": value for name, value in oracle.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": {"width": 8}}, tmp_path / "o.ckpt")
    module = module_of(evaluation={"oracle": str(tmp_path / "o.ckpt")})
    before = set(module.state_dict())
    trainer = fit(module, tmp_path, limit_val_batches=1)
    assert "val/oracle_mad" in trainer.callback_metrics
    assert set(module.state_dict()) == before
    assert not any(isinstance(part, NormalOracle) for part in module.modules())


def test_a_trained_branch_learns_no_more(tmp_path):
    # Whatever the budget is (geod §2.4).
    branch = module_of(guidance=NOW, ir_stop_kimg=600)
    assert trains_inverse_renderer(branch.options)
    torch.save({"state_dict": branch.state_dict()}, tmp_path / "branch.ckpt")
    module = module_of(guidance=NOW, ir_stop_kimg=600, ir_init=str(tmp_path / "branch.ckpt"))
    assert not trains_inverse_renderer(module.options)
    assert len(module.configure_optimizers()) == 2
    assert not any(p.requires_grad for p in module.networks.inverse_renderer.parameters())


def test_eg3ds_weights_load_with_what_is_no_weight_in_them(tmp_path):
    module, other = module_of(), module_of(seed=3)
    for name in ("generator", "discriminator"):
        content = getattr(other.networks, name).state_dict()
        content |= {"dataset_label_std": torch.ones(25), "resample_filter": torch.ones(4, 4)}
        content |= {"b32.resample_filter": torch.ones(4, 4)}
        torch.save(content, tmp_path / f"{name}.pt")
        module.hparams[f"{name}_init"] = str(tmp_path / f"{name}.pt")
    module.load_pretrained()
    for name in ("generator", "discriminator"):
        loaded = getattr(module.networks, name).state_dict()
        assert all(torch.equal(value, loaded[key]) for key, value in getattr(other.networks, name).state_dict().items())
    for content in (b"not weights", b"junk\n", b""):
        (tmp_path / "generator.pt").write_bytes(content)
        with pytest.raises(UserError, match=r"is no file of weights|is empty"):
            module.load_pretrained()
