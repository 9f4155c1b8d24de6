"""The LightningModule: what each step trains, when lazy steps are due, where it starts, and what is kept."""

import math

import pytest
import torch

from common.errors import UserError
from lightning_modules.linkgan import losses
from lightning_modules.linkgan.latents import pass_latents
from lightning_modules.linkgan.module import LinkGAN
from lightning_modules.linkgan.regularizer import link_loss
from tests.linkgan.build import Faces, changed, fit, module_of, noise_of, options_of, state, trainer_of

OFF = {"lambda_in": 0.0, "lambda_out": 0.0}


def networks_of(module):
    return {name: value for name, value in module.state_dict().items() if not name.endswith("seen")}


def test_without_weight_links_change_nothing_step_for_step(tmp_path):
    # The baseline is the same class without weight, or without links.
    modules = {"off": module_of(link=OFF), "none": module_of(links={"eyes": None}), "on": module_of()}
    for name, module in modules.items():
        fit(module, tmp_path / name, batches=4)
    off, none, on = (networks_of(module) for module in modules.values())
    assert not changed(off, none)
    assert changed(off, on) >= {"generator", "discriminator", "average"}


def test_links_that_start_later_change_nothing_before(tmp_path):
    off, later, earlier = (
        module_of(link=OFF),
        module_of(link={"start_kimg": 0.03}),
        module_of(link={"start_kimg": 0.016}),
    )
    for name, module in (("off", off), ("later", later), ("earlier", earlier)):
        fit(module, tmp_path / name, batches=4)
    assert not changed(networks_of(off), networks_of(later))
    assert changed(networks_of(off), networks_of(earlier))


def test_regularized_steps_come_once_in_an_interval(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(losses, "link_loss", lambda *a: found.append(float(link_loss(*a))) or link_loss(*a))
    for interval, expected in ((1, 5), (2, 3), (8, 1)):
        found.clear()
        fit(module_of(link={"interval": interval}), tmp_path / str(interval), batches=5)
        assert len(found) == expected == math.ceil(5 / interval)


def count_inputs(module, tmp_path, batches=2):
    """Return, of each step, how many images the discriminator sees in the generator's and in its own step."""
    discriminator, seen = module.networks.discriminator, []
    original = discriminator.forward
    discriminator.forward = lambda images, *more: seen.append(len(images)) or original(images, *more)
    rows, step = [], LinkGAN.training_step

    def training_step(batch, batch_idx):
        seen.clear()
        step(module, batch, batch_idx)
        rows.append(list(seen))

    module.training_step = training_step
    fit(module, tmp_path, batches)
    return rows


LAZY_OFF = {"r1_gamma": 0.0, "path_length_weight": 0.0}


def test_the_discriminator_sees_perturbed_images_in_regularized_steps(tmp_path):
    # 8 images a step, of which half are regularized: 2 perturbed images of each of 4.
    rows = count_inputs(module_of(regularization=LAZY_OFF), tmp_path)
    assert rows == [[8, 8, 8, 16], [8, 8, 8]]
    hidden = module_of(regularization=LAZY_OFF, link={"adversarial_on_perturbed": False})
    assert count_inputs(hidden, tmp_path) == [[8, 8, 8], [8, 8, 8]]
    links = {"mouth": {"axes": [0.5, 0.75], "region": "bottom_half"}}
    both = count_inputs(module_of(regularization=LAZY_OFF, links=links), tmp_path)
    assert both == [[8, 16, 8, 24], [8, 8, 8]]
    one = module_of(regularization=LAZY_OFF, links=links, link={"links_per_step": 1})
    assert count_inputs(one, tmp_path) == [[8, 8, 8, 16], [8, 8, 8]]


def test_steps_of_one_network_leave_the_other_alone(tmp_path, monkeypatch):
    module, seen = module_of(), {}

    def watched(name):
        original = getattr(LinkGAN, name)

        def step(module, *arguments):
            before = state(module)
            found = original(module, *arguments)
            seen[name] = changed(before, module.state_dict())
            return found

        return step

    for name in ("generator_step", "path_length_step", "discriminator_step"):
        monkeypatch.setattr(LinkGAN, name, watched(name))
    fit(module, tmp_path, batches=1)
    assert list(seen) == ["generator_step", "path_length_step", "discriminator_step"]
    assert seen["generator_step"] == {"generator", "w_variance"}
    assert seen["path_length_step"] == {"generator", "path_length"}
    assert seen["discriminator_step"] == {"discriminator"}


def test_lazy_steps_of_path_length_and_r1_and_their_corrections(tmp_path):
    module = module_of(regularization={"r1_interval": 2, "path_length_interval": 3})
    trainer = fit(module, tmp_path, batches=4)
    steps = [max(int(s["step"]) for s in optimizer.state.values()) for optimizer in trainer.optimizers]
    assert steps == [6, 6]
    generator, discriminator = (optimizer.param_groups[0] for optimizer in trainer.optimizers)
    assert (generator["name"], discriminator["name"]) == ("generator", "discriminator")
    assert generator["lr"] == pytest.approx(2e-3 * 3 / 4)
    assert discriminator["betas"] == pytest.approx((0.0, 0.99 ** (2 / 3)))


def test_betas_may_be_whole_numbers(tmp_path):
    adam = {"lr": 2e-3, "beta1": 0, "beta2": 0.99, "weight_decay": 0}
    trainer = fit(module_of(optimizers={"generator": adam, "discriminator": adam}), tmp_path, batches=1)
    assert all(isinstance(beta, float) for beta in trainer.optimizers[0].param_groups[0]["betas"])


def test_the_average_follows_by_half_life_in_images(tmp_path):
    module = module_of(ema={"half_life": 8.0, "ramp": None})
    before = module.networks.average.module.synthesis.b4.const.clone()
    fit(module, tmp_path, batches=1)
    now = module.networks.generator.synthesis.b4.const
    # 8 images are one half-life.
    assert torch.allclose(module.networks.average.module.synthesis.b4.const, (before + now) / 2, atol=1e-6)
    assert int(module.networks.images_seen) == 8
    assert module.networks.average.module.mapping.w_avg.abs().sum() > 0
    assert module.networks.generator.mapping.average_decay == 0.995


# Losses of the five batches of `test_golden_losses`.
GOLDEN = {
    "g_loss": [0.7468, 0.7432, 0.7536, 0.8206, 0.8102],
    "d_loss": [1.3465, 1.3348, 1.3178, 1.2905, 1.2972],
    "link_loss": [34.7728, 34.7728, 25.639, 25.639, 49.6165],
    "link_inside": [1.0402, 1.0402, 0.5015, 0.5015, 1.2962],
    "link_outside": [0.1189, 0.1189, 0.3531, 0.3531, 0.3577],
    "path_length": [0.6513, 0.6513, 0.6513, 0.6513, 0.4711],
    "r1": [0.00145] * 5,
}


def test_golden_losses(tmp_path):
    module, seen = module_of(), []
    module.log_dict = lambda values, **_: seen.extend((name, float(value)) for name, value in values.items())
    fit(module, tmp_path, batches=5)
    found = {name: [value for key, value in seen if key == f"train/{name}"] for name in GOLDEN}
    # Measured when this was written: a change of any step shows.
    for name, values in GOLDEN.items():
        assert found[name] == pytest.approx(values, rel=0.02), name
    assert all(math.isfinite(value) for _, value in seen)
    # Lazy losses stay as they last were.
    assert found["link_loss"][0] == found["link_loss"][1]
    assert len(set(found["r1"])) == 1


def test_a_checkpoint_needs_nothing_else(tmp_path):
    module = module_of()
    trainer = fit(module, tmp_path, batches=2)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    again = LinkGAN.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    assert not changed(module.state_dict(), again.state_dict())
    content = torch.load(tmp_path / "one.ckpt", weights_only=True)
    assert len(content["optimizer_states"]) == 2
    kinds = {name.split(".")[0] for name in content["state_dict"]}
    counters = {"images_seen", "batches_seen", "w_variance"}
    assert kinds == {"generator", "discriminator", "average", "path_length"} | counters


def trained(tmp_path):
    base = module_of(seed=3, link=OFF)
    fit(base, tmp_path, batches=3).save_checkpoint(tmp_path / "base.ckpt")
    return base, str(tmp_path / "base.ckpt")


@pytest.mark.parametrize("continued", [True, False])
def test_linking_starts_from_all_networks_and_from_the_optimizers_if_asked(continued, tmp_path):
    base, path = trained(tmp_path)
    module, loaded = module_of(init_from=path, continue_optimizers=continued), {}

    def on_train_start():
        loaded.update(state(module))
        loaded["moments"] = [len(optimizer.state) for optimizer in module.trainer.optimizers]

    module.on_train_start = on_train_start
    trainer = fit(module, tmp_path, batches=1)
    moments = loaded.pop("moments")
    expected = base.state_dict()
    # What was seen is counted anew; everything else is the base's.
    assert changed(expected, loaded) == {"images_seen", "batches_seen"}
    assert int(loaded["batches_seen"]) == 0
    assert int(loaded["average.images_seen"]) == 24
    assert all(moments) == continued
    assert any(moments) == continued
    # Three steps and two lazy ones before, each optimizer's own of one batch after.
    steps = [max(int(s["step"]) for s in optimizer.state.values()) for optimizer in trainer.optimizers]
    assert steps == ([4 + 2, 4 + 2] if continued else [2, 2])


def test_only_the_latest_learning_rate_is_used_when_optimizers_continue(tmp_path):
    _, path = trained(tmp_path)
    adam = {"lr": 1e-4, "beta1": 0.0, "beta2": 0.9, "weight_decay": 0.0}
    module = module_of(init_from=path, optimizers={"generator": adam})
    trainer = fit(module, tmp_path, batches=1)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-4 * 4 / 5)


def test_what_is_no_start_is_refused(tmp_path):
    _, path = trained(tmp_path)
    cases = [
        ({"init_from": str(tmp_path / "none.ckpt")}, "init_from: no file"),
        ({"init_from": path, "stylegan2": {"channel_max": 4}}, r"'generator\..*' is \["),
    ]
    for changes, words in cases:
        with pytest.raises(UserError, match=words):
            module_of(**changes).load_pretrained()
    content = torch.load(path, weights_only=True)
    torch.save({"state_dict": content["state_dict"]}, tmp_path / "bare.ckpt")
    bare = {"init_from": str(tmp_path / "bare.ckpt")}
    with pytest.raises(UserError, match="continue_optimizers=false"):
        fit(module_of(**bare), tmp_path, batches=1)
    fit(module_of(**bare, continue_optimizers=False), tmp_path, batches=1)
    torch.save(module_of().networks.generator.state_dict(), tmp_path / "generator.pt")
    with pytest.raises(UserError, match="expected a checkpoint of LinkGAN"):
        module_of(init_from=str(tmp_path / "generator.pt")).load_pretrained()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"link": {"interval": 0}}, "model.link.interval is 0"),
        ({"link": {"lambda_in": -1.0}}, "model.link.lambda_in is -1.0"),
        ({"link": {"links_per_step": 2}}, "links_per_step is 2, there are 1 links"),
        ({"regularization": {"r1_interval": 0}}, "model.regularization.r1_interval is 0"),
        ({"style_mixing": 1.5}, "style_mixing is 1.5"),
        ({"image_size": 24}, "data.image_size is 24, should be a power of two"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, words):
    with pytest.raises((UserError, ValueError), match=words):
        module_of(**changes)


def test_every_missing_file_is_told_before_the_start():
    segmenter = {"kind": "small", "path": "no_segmenter.ckpt", "classes": ["skin", "eye"], "size": 16}
    files = {"features": "no_features.ckpt", "inception": "no_inception.pth"}
    links = {"eyes": {"axes": [0.0, 0.25], "region": {"classes": ["eye"]}}}
    module = module_of(init_from="no_start.ckpt", links=links, segmenter=segmenter, evaluation=files)
    told = []
    for check in module.start_checks(None):
        with pytest.raises(UserError) as error:
            check()
        told += error.value.lines
    keys = ("init_from", "segmenter.path", "evaluation.features", "evaluation.inception")
    names = ("no_start.ckpt", "no_segmenter.ckpt", *files.values())
    assert [line.split(";")[0] for line in told] == [
        f"model.{key}: no file {name}" for key, name in zip(keys, names, strict=True)
    ]


def test_a_validation_shows_the_same_latents_and_what_leaks(tmp_path):
    module, shown, logged = module_of(), [], {}
    module.show_picture = lambda name, picture, caption="": shown.append((name, picture.shape, caption))
    module.log_dict = lambda values, **_: logged.update(values)
    fit(module, tmp_path, batches=1, limit_val_batches=1, num_sanity_val_steps=0)
    assert [name for name, _, _ in shown] == ["training_edits", "training_samples"]
    assert "after 8 images" in shown[0][2]
    assert logged.keys() >= {f"val/{name}" for name in ("leak_in", "leak_out", "hold", "diversity")}


def test_a_test_compares_plain_and_edited_images(tmp_path):
    module, shown, logged = module_of(), [], {}
    module.show_picture = lambda name, *_: shown.append(name)
    module.log_dict = lambda values, **_: logged.update(values)
    trainer_of(tmp_path, limit_test_batches=2).test(module, datamodule=Faces(), verbose=False)
    assert logged.keys() >= {"test/psd_error", "test/psd_error_edited", "test/leak_in", "test/images_seen"}
    assert logged["test/psd_error"] != logged["test/psd_error_edited"]
    assert set(shown) == {"samples", "real", "edits"}


def test_samples_are_the_averages_and_edits_change_the_links_axes_alone():
    module = module_of()
    module.eval().requires_grad_(False)

    def drawn(**asked):
        return torch.cat(list(module.generate(LinkGAN.sample_options | asked)))

    five, three = drawn(count=5, seed=4), drawn(count=3, seed=4)
    assert torch.allclose(five[:3], three, atol=1e-5)
    assert torch.allclose(drawn(count=3, seed=0), drawn(count=3), atol=1e-5)
    average = drawn(count=3, truncation=0.0)
    assert torch.allclose(average[0], average[2], atol=1e-5)
    edits = drawn(count=2, resample="eyes")
    assert edits.shape == (2, 3, 16, 48)
    assert torch.allclose(edits[..., :16], drawn(count=2).clamp(-1, 1), atol=1e-5)
    assert (edits[..., 32:] > -0.9).any()
    with pytest.raises(UserError, match="no link 'eye'"):
        drawn(resample="eye")
    assert module.sample_files(LinkGAN.sample_options) == {}


def test_networks_of_stylegan2_ada_are_where_it_starts(tmp_path):
    base = module_of(seed=5).networks
    parts = {"G_ema": base.average.module, "G": base.generator, "D": base.discriminator}
    torch.save({name: network.state_dict() for name, network in parts.items()}, tmp_path / "ada.pt")
    start = {"init_from": str(tmp_path / "ada.pt")}
    module = module_of(**start, continue_optimizers=False)
    module.load_pretrained()
    for name in ("generator", "discriminator", "average.module"):
        expected = base.get_submodule(name).state_dict()
        assert not changed(expected, module.networks.get_submodule(name).state_dict())
    with pytest.raises(UserError, match="continue_optimizers=false"):
        fit(module_of(**start), tmp_path, batches=1)


def test_draws_of_links_move_no_other_draw():
    module, none = module_of(), module_of(links={"eyes": None})
    drawn = [pass_latents(one.networks, one.options, "generator", 4) for one in (module, none)]
    assert torch.equal(drawn[0].z, drawn[1].z)
    assert not torch.equal(drawn[0].z, pass_latents(module.networks, module.options, "discriminator", 4).z)
    assert not torch.equal(noise_of(0).normal("z", (4, 8)), noise_of(1).normal("z", (4, 8)))
    assert options_of()["links"].keys() == {"eyes"}
