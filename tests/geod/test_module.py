"""The LightningModule: three players, what moves when, what is kept, and what is generated."""

import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from common.errors import UserError
from datamodules.heads import RenderedHeads
from lightning_modules.geod import inverse_loss as losses
from lightning_modules.geod.evaluation import GeometryErrors, Group, draw_groups
from lightning_modules.geod.geometry import focal_length, normals_of_depth
from lightning_modules.geod.inverse_module import InverseRendering
from lightning_modules.geod.module import GeoD
from lightning_modules.geod.optimisers import build_adam
from lightning_modules.geod.options import trains_inverse_renderer
from lightning_modules.geod.oracle import NormalOracle, load_oracle
from lightning_modules.geod.oracle_module import OracleTraining
from lightning_modules.geod.pictures import Views, normals_shown, samples_figure
from lightning_modules.geod.players import Judge, build_discriminator, density_variation, r1_penalty
from lightning_modules.geod.sampling import Samples
from networks.volume_rendering import Rendering
from tests.geod.build import SMALL, bump, cameras, images, merged, module_of, plain

# Losses of the first four batches of `test_golden_losses`.
GOLDEN = {
    "ir_loss": [0.9574, 0.8859, 0.6371, 0.5963],
    "g_loss": [0.7351, 0.7397, 0.7346, 0.7722],
    "d_loss": [1.3639, 1.3533, 1.3606, 1.3582],
    "guidance": [1.4826, 1.3845, 1.3320],
}
NOW = {"gamma_end": 1.0, "start_kimg": 0.0, "end_kimg": 0.0}


class Heads(RenderedHeads):
    """A few heads, in the order of their index."""

    def __init__(self, **options):
        sizes = {"train_size": 32, "val_size": 8, "test_size": 8, "batch_size": 8}
        super().__init__(families=["ellipsoid", "cone"], **(sizes | options))

    def _loader(self, name):
        return DataLoader(self.source(name), batch_size=self.batch_size)

    def train_dataloader(self):
        return self._loader("fit")

    def val_dataloader(self):
        return self._loader("val")

    def test_dataloader(self):
        return self._loader("test")


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
    for player in ("generator", "discriminator"):
        one, other = (getattr(module.networks, player).parameters() for module in (off, idle))
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    one, other = (module.networks.generator.parameters() for module in (off, on))
    assert any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_inverse_renderer_is_not_moved_by_the_generators_lesson(tmp_path):
    # Trap 3.
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


def test_steps_of_one_player_leave_the_others_alone(tmp_path, monkeypatch):
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
    # Trap 3.
    module, read = module_of(guidance=NOW, ir_stop_kimg=1.0), []
    monkeypatch.setattr(
        "lightning_modules.geod.module.inverse_loss",
        lambda reading, *more: read.append(reading.image) or losses.inverse_loss(reading, *more),
    )
    fit(module, tmp_path, batches=2)
    real = Heads().source("fit").fetch(range(16))["image"]
    assert torch.equal(torch.cat(read), real)


def test_it_stops_learning_to_read_after_its_images(tmp_path):
    module = module_of(ir_stop_kimg=0.016)
    trainer = fit(module, tmp_path, batches=3)
    steps = {int(s["step"]) for s in trainer.optimizers[2].state.values()}
    assert steps == {2}
    assert int(module.networks.images_seen) == 24


def test_what_is_drawn_depends_on_seed_and_place_and_is_shared_out(tmp_path):
    module = module_of()
    fit(module, tmp_path, batches=1)
    batch = {"image": torch.zeros(6, 3, 32, 32)}

    class World:
        world_size, global_rank = 1, 0

    whole = World()
    module._trainer, module.trainer = whole, whole
    together = module.draw(batch, 0)
    assert torch.equal(module.draw(batch, 0).z, together.z)
    assert not torch.equal(module.draw(batch, 1).z, together.z)
    parts = []
    for rank in range(2):
        whole.world_size, whole.global_rank = 2, rank
        parts.append(module.draw({"image": batch["image"][:3]}, 0))
    for name in ("z", "camera", "other"):
        both = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(both, getattr(together, name))


def test_adam_is_corrected_for_lazy_steps_and_takes_whole_numbers():
    # Trap 13: torch refuses a beta of 0 that is no float.
    options = {"lr": 2e-3, "beta1": 0, "beta2": 0.99, "weight_decay": 0.0}
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    plain_one, lazy = build_adam(parameters, options), build_adam(parameters, options, lazy_interval=4)
    assert plain_one.defaults["betas"] == (0.0, 0.99)
    assert isinstance(plain_one.defaults["betas"][0], float)
    assert lazy.defaults["lr"] == pytest.approx(2e-3 * 0.8)
    assert lazy.defaults["betas"] == pytest.approx((0.0, 0.99**0.8))


def test_r1_is_the_squared_gradient_of_real_images():
    image = torch.randn(5, 3, 4, 4).requires_grad_()
    weight = torch.randn(3, 4, 4)
    logits = (image * weight).sum(dim=(1, 2, 3)) + 0.5 * image.square().sum(dim=(1, 2, 3))
    expected = (weight + image).square().sum(dim=(1, 2, 3)).mean()
    assert r1_penalty(logits, image).item() == pytest.approx(expected.item(), rel=1e-5)


def test_r1_and_density_have_their_steps(tmp_path):
    module = module_of(regularisation={"r1_interval": 2, "density_weight": 0.25, "density_interval": 3})
    trainer = fit(module, tmp_path, batches=4)
    steps = [max(int(s["step"]) for s in optimizer.state.values()) for optimizer in trainer.optimizers]
    # Four batches; density after the first and the fourth, R1 after the first and the third.
    assert steps == [6, 6]


def test_r1_of_every_step_is_part_of_the_loss(tmp_path):
    module = module_of(regularisation={"r1_interval": 1, "density_weight": 0.0})
    trainer = fit(module, tmp_path, batches=4)
    critic = trainer.optimizers[1]
    assert max(int(s["step"]) for s in critic.state.values()) == 4
    assert critic.defaults["lr"] == 2e-3


def test_density_that_is_everywhere_the_same_does_not_vary():
    module = module_of()
    z = torch.randn(2, 8)
    assert density_variation(module.networks.generator, z, cameras(2)) > 0
    torch.nn.init.zeros_(module.networks.generator.decoder.net[2].weight)
    assert density_variation(module.networks.generator, z, cameras(2)) == 0


def test_the_judge_blurs_at_first_and_sees_raw_images_beside():
    options = plain("geod")["discriminator"] | SMALL["discriminator"] | {"pose_conditioned": False}
    fading = Judge(options | {"blur_sigma": 4.0, "blur_fade_kimg": 2}, 32)
    assert [fading.sigma(seen) for seen in (0, 1000, 2000, 9000)] == [4, 2, 0, 0]
    image = images(4)
    seen = []
    for images_seen in (0, 2000):
        fading(lambda x, c: seen.append(x) or x.mean(dim=(1, 2, 3)), image, None, images_seen)
    assert seen[0].std() < 0.8 * seen[1].std()
    assert torch.equal(seen[1], image)
    both = Judge(options | {"sees_raw": True}, 16)
    assert both.of_real(image).shape == (4, 6, 32, 32)
    rendering = Rendering(image, torch.ones(4, 16, 16), torch.ones(4, 16, 16), images(4)[..., ::2, ::2])
    assert both.of_rendered(rendering).shape == (4, 6, 32, 32)
    critic = build_discriminator(options | {"sees_raw": True, "pose_conditioned": True}, 32)
    told = Judge(options | {"sees_raw": True, "pose_conditioned": True}, 16)
    assert told(critic, told.of_real(image), cameras(4), 0).shape == (4,)


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
    # Without weight nothing is read.
    assert len(found["train/guidance"]) == 3
    assert len(set(found["train/r1"])) == 1
    assert all(math.isfinite(value) for values in found.values() for value in values)
    assert found["train/ir_loss"][0] > found["train/ir_loss"][-1]


def test_trained_networks_are_where_it_starts(tmp_path):
    reader = InverseRendering(**merged(plain("geod_ir"), {"inverse_renderer": SMALL["inverse_renderer"]}))
    reader.configure_model()
    torch.save({"state_dict": reader.state_dict()}, tmp_path / "reader.ckpt")
    module = module_of(guidance=NOW, ir_init=str(tmp_path / "reader.ckpt"))
    torch.save(module_of(seed=5).networks.generator.state_dict(), tmp_path / "generator.pt")
    module.hparams.generator_init = str(tmp_path / "generator.pt")
    module.load_pretrained()
    loaded = module.networks.inverse_renderer.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in reader.inverse_renderer.state_dict().items())
    torch.save(module_of(seed=6).networks.discriminator.state_dict(), tmp_path / "critic.pt")
    module.hparams.discriminator_init = str(tmp_path / "critic.pt")
    module.load_pretrained()
    loaded, expected = module.networks.discriminator.state_dict(), module_of(seed=6).networks.discriminator.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in expected.items())
    one, average = module.networks.generator.state_dict(), module.networks.average.module.state_dict()
    assert all(torch.equal(value, average[name]) for name, value in one.items())
    for content, words in (("none.pt", "no file"), ("reader.ckpt", "another network")):
        module.hparams.generator_init = str(tmp_path / content)
        with pytest.raises(UserError, match=words):
            module.load_pretrained()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"triplane": None}, "one of triplane and pigan"),
        ({"geometry": "pretrained", "nvs": {"kind": "warp"}}, "needs geometry=unsup3d"),
        ({"evaluation": {"per_pose": 1}}, "per_pose is 1"),
        ({"guidance": {"interval": 0}}, "guidance.interval is 0"),
        ({"regularisation": {"density_interval": 0}}, "regularisation.density_interval is 0"),
        ({"triplane": {"plane_size": 48}}, "plane_size is 48, should be a power of two"),
        ({"image_size": 48, "triplane": {"raw_size": 48}}, "data.image_size is 48"),
        ({"geometry": "pretrained", "guidance": NOW}, "no depth model at None; expected a folder"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        _ = module_of(**changes).networks.reader


@pytest.mark.parametrize("kind", ["warp", "reproject"])
def test_novel_views_are_a_task_of_their_own(kind, tmp_path):
    module = module_of(guidance=NOW, nvs={"kind": kind})
    fit(module, tmp_path, batches=1)
    assert module.latest["novel_view"] > 0


# The oracle and the errors of generated geometry.


def oracle_of_truth(depths):
    class Truth(NormalOracle):
        def shape(self, image):
            from lightning_modules.geod.geometry import focal_length, normals_of_depth
            from lightning_modules.geod.oracle import Seen

            return Seen(normals_of_depth(depths, focal_length(32, 18.837)), torch.ones(len(depths), 32, 32))

    return Truth(8)


def test_specificity_is_nothing_for_one_shape_and_much_for_the_right_ones():
    depths = torch.cat([bump(height=height, width=width) for height in (0.2, 0.6) for width in (0.3, 0.6)])
    image, weight, camera = images(4), torch.ones(4, 32, 32), cameras(4)

    def errors(depth):
        metric = GeometryErrors(oracle_of_truth(depths), 1.25)
        rendering = Rendering(image, depth, weight, image)
        metric.update(Group(rendering, camera, rendering, camera))
        return {name: float(value) for name, value in metric.compute().items()}

    right, mean = errors(depths), errors(depths.mean(dim=0, keepdim=True).expand(4, -1, -1))
    assert right["oracle_mad"] < 0.01
    assert right["specificity"] > 5
    # The oracle here sees objects everywhere, so there are no outlines.
    assert right["specificity_inside"] == pytest.approx(right["specificity"], abs=1e-3)
    assert mean["specificity"] == pytest.approx(0, abs=1e-4)
    assert mean["oracle_mad"] > 3
    wrong = errors(depths.roll(1, 0))
    assert wrong["specificity"] < 0
    assert mean["specificity_inside"] == pytest.approx(0, abs=1e-4)
    # Where rays pass through there is no surface to be judged.
    hollow = GeometryErrors(oracle_of_truth(depths), 1.25)
    rendering = Rendering(image, depths, 0 * weight, image)
    hollow.update(Group(rendering, camera, rendering, camera))
    assert not hollow.metrics["oracle_mad"].update_called


def test_groups_depend_on_their_seed_alone():
    module = module_of()
    pair = torch.stack([cameras(1)[0], cameras(1, yaw=0.2)[0]])
    first, second = draw_groups(module.networks.generator.eval(), pair.expand(2, 2, 25), 3, [4, 5])
    (again,) = draw_groups(module.networks.generator.eval(), pair[None], 3, [5])
    assert torch.equal(second.rendering.image, again.rendering.image)
    assert not torch.equal(first.rendering.image, second.rendering.image)
    assert torch.equal(first.camera[0], first.camera[2])


def test_the_oracle_learns_normals_and_mask(tmp_path):
    torch.manual_seed(0)
    module = OracleTraining(**(plain("geod_oracle") | {"width": 8}))
    module.configure_model()
    batch = Heads(train_size=32).source("fit").fetch(range(32))
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    values = []
    for _ in range(30):
        loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss))
    assert values[-1] < 0.6 * values[0]
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, tmp_path / "o.ckpt")
    oracle = load_oracle(str(tmp_path / "o.ckpt"))
    seen = oracle.shape(batch["image"])
    assert torch.allclose(seen.normals.norm(dim=-1), torch.ones(32, 32, 32), atol=1e-5)
    assert (seen.mask == batch["mask"]).float().mean() > 0.8
    assert not any(p.requires_grad for p in oracle.parameters())


def test_what_is_no_oracle_is_refused(tmp_path):
    with pytest.raises(UserError, match="no file"):
        load_oracle(str(tmp_path / "none.ckpt"))
    torch.save({"state_dict": {}, "hyper_parameters": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="not a checkpoint of an oracle"):
        load_oracle(str(tmp_path / "other.ckpt"))
    with pytest.raises(UserError, match="multiple of 8"):
        NormalOracle(12)


def test_samples_are_the_moving_averages_and_depend_on_their_place_alone(tmp_path):
    # Trap 14.
    module = module_of()
    with torch.no_grad():
        for parameter in module.networks.generator.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    samples, average = Samples(module.networks, module.options), module.networks.average.module.eval()
    z, cameras = samples.latents(3), samples.cameras(3)
    (found,) = samples.images(3)
    assert torch.equal(found, average(z, cameras).image)
    assert not torch.allclose(found, module.networks.generator.eval()(z, cameras).image, atol=0.01)
    (more,) = samples.images(5)
    assert torch.allclose(more[:3], found, atol=1e-5)
    # Nothing in the pictures is drawn at random either.
    views = [samples_figure(Views(samples.generator, z, module.hparams.poses, None)) for _ in range(2)]
    assert np.array_equal(*views)


def test_normals_are_coloured_as_they_point_out_of_the_surface():
    colours = normals_shown(normals_of_depth(bump(height=0.8), focal_length(32, 18.837)))[0]
    assert colours[2, 16, 16] > 0.7
    assert colours[0, 16, 24] > 0.2 > -0.2 > colours[0, 16, 8]
    assert colours[1, 24, 16] > 0.2 > -0.2 > colours[1, 8, 16]


def test_the_oracle_is_no_part_of_what_it_judges(tmp_path):
    # Trap 12.
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
    # Section 2.4: whatever the budget is.
    reader = module_of(guidance=NOW, ir_stop_kimg=600)
    assert trains_inverse_renderer(reader.options)
    torch.save({"state_dict": reader.state_dict()}, tmp_path / "reader.ckpt")
    module = module_of(guidance=NOW, ir_stop_kimg=600, ir_init=str(tmp_path / "reader.ckpt"))
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


def test_the_oracle_shares_neither_heads_nor_weights_with_what_it_judges():
    # Trap 12.
    seeds, default = {}, OmegaConf.load("conf/data/heads.yaml").world_seed
    for name in ("geod", "geod_ir", "geod_oracle", "geod_features"):
        config = OmegaConf.load(f"conf/experiment/{name}.yaml")
        seeds[name] = OmegaConf.select(config, "data.world_seed", default=default)
    assert seeds["geod"] == seeds["geod_ir"]
    assert len({seeds["geod"], seeds["geod_oracle"], seeds["geod_features"]}) == 3
