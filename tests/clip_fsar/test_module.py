"""The LightningModule: what learns, who reads which names, what a checkpoint holds, and evaluation on episodes."""

import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from common.errors import UserError
from lightning_modules.clip_fsar.episode_prediction import predict_episodes
from lightning_modules.clip_fsar.evaluation import accuracies, bank_of, interval, on_device
from lightning_modules.clip_fsar.module import CLIPFSAR
from lightning_modules.clip_fsar.pictures import soft_path, strip
from lightning_modules.clip_fsar.schedule import build_adam, learning_rate
from tests.clip_fsar.build import data, merged, module_of, options, plain

GOLDEN = [6.4016, 6.3707, 6.3381, 6.3085, 6.2781]
K100 = {"warmup_episodes": 1000, "warmup_lr": 5e-6, "milestones": [3000, 5000], "gamma": 0.1}


def trainer(folder, **more):
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(default_root_dir=folder, max_epochs=1, **(quiet | more))


def episode(count=1, seed=0, clips=6):
    """Return training episodes, and text features of 24 classes."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(count, 5 * clips, 8, 3, 16, 16, generator=generator) * 2 - 1
    classes = torch.stack([torch.randperm(24, generator=generator)[:5] for _ in range(count)])
    return {"image": image, "class": classes}, torch.randn(24, 32, generator=generator)


def test_queries_read_no_names(tmp_path):
    # Other names change prototypes and no query (§2.5).
    module = module_of(tmp_path).eval()
    batch, base = episode()
    frames = module(batch["image"])
    support, queries = frames[:, :5].unflatten(1, (5, 1)), frames[:, 5:]
    names = base[batch["class"]]
    one = predict_episodes(module.episode_networks, support, queries, names)
    other = predict_episodes(module.episode_networks, support, queries, names.roll(1, dims=1))
    assert torch.equal(one.queries, other.queries)
    assert not torch.allclose(one.prototypes, other.prototypes, atol=1e-3)


def test_clips_are_told_from_all_base_classes(tmp_path, monkeypatch):
    # Not only from the five of the episode (§2.3).
    from lightning_modules.clip_fsar import episode_losses as file

    seen = []
    own = file.video_text_logits
    monkeypatch.setattr(file, "video_text_logits", lambda *x: seen.append(own(*x)) or seen[-1])
    module = module_of(tmp_path)
    batch, base = episode(2)
    found = module.losses(batch, base)
    assert seen[0].shape == (2, 30, 24)
    truth = torch.cat([batch["class"], batch["class"].repeat_interleave(5, dim=1)], dim=1)
    expected = torch.nn.functional.cross_entropy(seen[0].flatten(0, 1), truth.flatten())
    assert found["video_text"] == expected


def test_the_scale_starts_at_one_and_learns(tmp_path):
    # CLIP's own scale is 100 (§2.3).
    module = module_of(tmp_path)
    batch, base = episode()
    module.losses(batch, base)["video_text"].backward()
    assert module.scale == 1
    assert module.scale.grad != 0
    assert any(
        parameter is module.scale
        for group in build_adam(module.named_parameters(), module.hparams.optimizer).param_groups
        for parameter in group["params"]
    )


def test_features_are_the_encoders_own(tmp_path):
    # Not normalized (§2.2).
    module = module_of(tmp_path).eval()
    clips = episode()[0]["image"]
    frames = module(clips)
    assert torch.allclose(frames[0, 3], module.visual(clips[0, 3]), atol=1e-6)
    assert frames.norm(dim=-1).std() > 0.01


def test_support_and_queries_are_looked_at_apart(tmp_path):
    # BatchNorm in train mode sees the clips of one part only.
    module, seen = module_of(tmp_path), []
    module.visual.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    module.losses(*episode(2))
    assert seen == [2 * 5 * 8, 2 * 25 * 8]


@pytest.mark.parametrize("weight", [0.0, 1.5])
def test_gradients_reach_what_is_trained(tmp_path, weight):
    module = module_of(tmp_path, video_text={"weight": weight})
    module._loss(module.losses(*episode())).backward()
    without = {name for name, parameter in module.named_parameters() if parameter.grad is None}
    assert without == (set() if weight else {"scale"})
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters() if parameter.grad is not None)
    frozen = module_of(tmp_path, frozen=True)
    frozen._loss(frozen.losses(*episode())).backward()
    assert all(parameter.grad is None for parameter in frozen.visual.parameters())
    assert not frozen.visual.training


def test_one_transformer_serves_both(tmp_path):
    # Support and queries share their weights (§2.4).
    names = [name for name in module_of(tmp_path).state_dict() if "attention.query" in name]
    assert names == ["context.0.attention.query.weight"]


def test_the_text_tower_is_neither_trained_nor_kept(tmp_path):
    # It is in no optimizer and in no checkpoint (§2.2).
    module = module_of(tmp_path)
    assert {name.split(".")[0] for name in module.state_dict()} == {"visual", "context", "scale"}
    trained = {
        id(p)
        for group in build_adam(module.named_parameters(), module.hparams.optimizer).param_groups
        for p in group["params"]
    }
    assert trained == {id(p) for p in module.parameters()}


def test_a_checkpoint_tells_other_classes_apart(tmp_path):
    # Names of other classes are read when they are asked for (§2.2).
    module = module_of(tmp_path, evaluation={"episodes": 10, "validation_episodes": 5, "shots": [1]})
    fit = trainer(tmp_path, limit_train_batches=2)
    fit.fit(module, datamodule=data())
    fit.save_checkpoint(tmp_path / "one.ckpt")
    content = torch.load(tmp_path / "one.ckpt", weights_only=True)
    assert len(content["names"]) == 48
    (tmp_path / "mini.ckpt").rename(tmp_path / "moved.ckpt")
    again = CLIPFSAR.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    found = trainer(tmp_path).test(again, datamodule=data(), verbose=False)[0]
    # The interval is of all episodes (§2.9).
    values = again.eval()._evaluate("test", 1, 10)["acc"]
    assert len(values) == 10
    assert found["test/acc_1shot"] == pytest.approx(float(values.mean()))
    assert found["test/acc_1shot_ci"] == pytest.approx(interval(values))
    assert len(again._names) == 48
    (tmp_path / "moved.ckpt").rename(tmp_path / "mini.ckpt")

    class Others(type(data())):
        def class_names(self, split):
            return [f"a {name}" for name in super().class_names(split)]

    other = Others(image_size=16, train_clips=8, eval_clips=8)
    trainer(tmp_path).test(again, datamodule=other, verbose=False)
    assert set(again._names) - set(content["names"]) == {f"a photo of a {n}" for n in data().class_names("test")}


def test_an_episode_knows_nothing_of_the_next(tmp_path):
    # Outside of BatchNorm's training mode the episodes of a batch are independent (§2.2).
    module = module_of(tmp_path).eval()
    batch, base = episode(2)
    both = module(batch["image"])
    assert torch.allclose(both[1], module(batch["image"][1:])[0], atol=1e-5)
    two = module.losses(batch, base)["few_shot"]
    each = [module.losses({k: v[i : i + 1] for k, v in batch.items()}, base)["few_shot"] for i in range(2)]
    assert torch.allclose(two, torch.stack(each).mean(), atol=1e-5)


def test_order_of_frames_counts(tmp_path):
    # The alignment alone knows the order (§2.6).
    module = module_of(tmp_path).eval()
    batch, base = episode()
    frames = module(batch["image"])
    support, queries, names = frames[:, :5].unflatten(1, (5, 1)), frames[:, 5:], base[batch["class"]]
    one, other = (predict_episodes(module.episode_networks, support, x, names) for x in (queries, queries.flip(2)))
    assert not torch.allclose(one.distances, other.distances, atol=1e-4)
    assert torch.allclose(one.text_logits, other.text_logits, atol=1e-5)


def test_the_mini_clip_has_one_form():
    assert plain("clip_fsar")["mini"] == plain("mini_clip")["mini"]


def test_the_schedule_is_the_released_loops():
    # In iterations of 4 processes: 250, 750 and 1250 of K100 (§2.7).
    rates = [learning_rate(4 * i, 1e-5, K100) for i in (0, 125, 250, 749, 750, 1249, 1250, 4999)]
    assert rates == pytest.approx([5e-6, 7.5e-6, 1e-5, 1e-5, 1e-6, 1e-6, 1e-7, 1e-7])
    assert learning_rate(0, 1e-3, {"warmup_episodes": 0, "warmup_lr": 0.0, "milestones": [], "gamma": 0.1}) == 1e-3


def test_rates_are_of_the_episodes_of_a_step(tmp_path):
    schedule = {"warmup_episodes": 32, "warmup_lr": 1e-6, "milestones": [64], "gamma": 0.1}
    module = module_of(tmp_path, schedule=schedule)
    fit = trainer(tmp_path, accumulate_grad_batches=8, limit_val_batches=0)
    rates = []
    module.on_train_batch_end = lambda *_: rates.append(fit.optimizers[0].param_groups[0]["lr"])
    fit.fit(module, datamodule=data(train_episodes=80, batch_size=2, queries=1))
    # A step has 2 x 8 episodes; the rate changes with steps alone.
    assert fit.global_step == 5
    assert rates[6::8] == pytest.approx([1e-6, 5.5e-6, 1e-5, 1e-5, 1e-6])
    assert rates[-1] == pytest.approx(1e-6)


def test_a_tuner_has_its_own_rate(tmp_path):
    lora = {"_target_": "tuners.peft_tuner.PeftTuner", "config_class": "LoraConfig", "lr": 1e-2}
    module = module_of(tmp_path, tuner=lora | {"kwargs": {"r": 2}, "target_modules": None})
    module.attach_tuner()
    groups = build_adam(module.named_parameters(), module.hparams.optimizer, module.tuner.lr).param_groups
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    rates = {names[id(parameter)]: group["lr"] for group in groups for parameter in group["params"]}
    assert {rate for name, rate in rates.items() if name.startswith(("visual.", "tuner."))} == {1e-2}
    assert {rate for name, rate in rates.items() if name.startswith(("context.", "scale"))} == {1e-5}
    assert set(rates) == {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith("visual.") and "lora" not in name for name in rates)


def test_a_step_whose_gradients_are_not_finite_is_left_out(tmp_path):
    # Adam's moments stay clean (§2.7).
    module = module_of(tmp_path)
    own, seen = module._loss, []

    def broken(found):
        seen.append(1)
        return own(found) * (math.nan if len(seen) == 2 else 1.0)

    module._loss = broken
    fit = trainer(tmp_path, limit_val_batches=0)
    with pytest.warns(UserWarning, match="step 1: gradients are not finite; the step is left out"):
        fit.fit(module, datamodule=data(queries=1))
    assert len(seen) == 4
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert {int(state["step"]) for state in fit.optimizers[0].state.values()} == {3}


CHANGES = {
    "trx": {"alignment": {"metric": "trx"}},
    "bi_mhm": {"alignment": {"metric": "bi_mhm"}},
    "one_way": {"alignment": {"bidirectional": False}},
    "merge_after": {"context": {"average_shots_first": False}},
    "deep": {"context": {"depth": 2}},
    "shallow": {"context": {"depth": 0, "text_modulation": False}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_option_learns_and_is_tested(name, tmp_path):
    options = {"evaluation": {"episodes": 6, "validation_episodes": 4, "shots": [1, 5]}, "optimizer": {"lr": 1e-3}}
    module = module_of(tmp_path, **CHANGES[name], **options)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    run = trainer(tmp_path)
    run.fit(module, datamodule=data(queries=1))
    changed = {key.split(".")[0] for key, value in module.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"visual", "context", "scale"} - ({"context"} if name == "shallow" else set()) | (
        {"alignment"} if name == "trx" else set()
    )
    found = run.test(module, datamodule=data(), verbose=False)[0]
    assert all(math.isfinite(value) for value in found.values())
    assert ("test/permuted_5shot" in found) == (name != "shallow")


def test_too_few_classes_are_told_before_the_training(tmp_path):
    with pytest.raises(UserError, match="10-way episodes need 10 classes of at least 1 \\+ 1 clips; 8 of 8"):
        trainer(tmp_path).fit(module_of(tmp_path), datamodule=data(ways=10, queries=1))
    with pytest.raises(UserError, match="5-way episodes need 5 classes of at least 5 \\+ 1 clips; 0 of 16"):
        trainer(tmp_path).fit(module_of(tmp_path), datamodule=data(eval_clips=3, queries=1))
    with pytest.raises(UserError, match="at least 5 \\+ 1 clips; 0 of 16"):
        trainer(tmp_path, limit_test_batches=1).fit(module_of(tmp_path), datamodule=data(eval_batch_size=32, queries=1))


def test_a_test_tells_what_cannot_be_before_it_looks_at_clips(tmp_path):
    module = module_of(tmp_path, evaluation={"shots": [1, 20]})
    with pytest.raises(UserError, match="at least 20 \\+ 1 clips"):
        trainer(tmp_path).test(module, datamodule=data(), verbose=False)
    assert not hasattr(module, "_seen")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluation": {"episodes": 0}}, "evaluation.episodes is 0"),
        ({"evaluation": {"shots": []}}, "evaluation.shots is"),
        ({"evaluation": {"shots": [0, 5]}}, "evaluation.shots is"),
        ({"towers": {"prompt": "a photo"}}, "needs one {}"),
        ({"alignment": {"smoothness": 1e-4}}, "smoothness is 0.0001, should be 0.001 or more"),
        ({"mini": {"embed_dim": 60}}, "mini.embed_dim is 60, should be a multiple of 8"),
        ({"mini": {"width": 40}}, "mini.width is 40, should be a multiple of 16"),
        ({"optimizer": {"lr": 0}}, "optimizer.lr is 0"),
        ({"towers": {"name": "RN5O"}}, "no model 'RN5O'; take mini or RN50"),
        ({"towers": {"name": "convnext_base"}}, "convnext_base is no plain CLIP"),
        ({"towers": {"name": "coca_ViT-B-32"}}, "no plain CLIP"),
        ({"frozen": True, "tuner": {"_target_": "tuners.full.Full"}}, "frozen is true: a tuner"),
    ],
)
def test_options_that_ask_for_nothing_are_told(changes, words):
    with pytest.raises(ValueError, match=words):
        CLIPFSAR(**options(**merged({"towers": {"weights": "x"}}, changes)))


def test_norms_do_not_decay(tmp_path):
    module = module_of(tmp_path)
    decayed, plain_group = build_adam(module.named_parameters(), module.hparams.optimizer).param_groups
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    assert decayed["weight_decay"] == 5e-5
    assert plain_group["weight_decay"] == 0
    assert {names[id(p)] for p in plain_group["params"]} >= {"context.0.attention.norm.weight"}
    assert not any("norm" in names[id(p)] or "bn" in names[id(p)] for p in decayed["params"])


def test_frozen_without_a_block_has_nothing_to_train(tmp_path):
    module = module_of(tmp_path, frozen=True, context={"depth": 0, "text_modulation": False}, video_text={"weight": 0})
    assert not module.has_training
    assert not module.trained_parameters()
    frames = module(episode()[0]["image"])
    told = predict_episodes(module.episode_networks, frames[:, :5].unflatten(1, (5, 1)), frames[:, 5:], None)
    assert torch.equal(told.queries, frames[:, 5:])


def test_the_losses_are_added_by_the_weight(tmp_path):
    module = module_of(tmp_path, video_text={"weight": 0.5})
    assert module._loss({"few_shot": torch.tensor(2.0), "video_text": torch.tensor(3.0)}) == 3.5


def test_prototypes_of_training_read_their_own_names(tmp_path, monkeypatch):
    from lightning_modules.clip_fsar import episode_losses as file

    seen, own = [], file.predict_episodes
    monkeypatch.setattr(file, "predict_episodes", lambda *x: seen.append(x) or own(*x))
    batch, base = episode(2)
    module_of(tmp_path).losses(batch, base)
    assert torch.equal(seen[0][3], base[batch["class"]])


def test_evaluation_reads_the_splits_names_and_its_own_seed(tmp_path, monkeypatch):
    module, clips = module_of(tmp_path, evaluation={"episodes": 4, "validation_episodes": 3, "seed": 7}), data()
    seen = []
    own, names = clips.episodes, module.names
    monkeypatch.setattr(clips, "episodes", lambda *x: seen.append(x[1:]) or own(*x))
    monkeypatch.setattr(module, "names", lambda split: seen.append(split) or names(split))
    run = trainer(tmp_path)
    run.validate(module, datamodule=clips, verbose=False)
    assert seen == [(1, 3, 7), "val"]
    seen.clear()
    run.test(module, datamodule=clips, verbose=False)
    assert [what for what in seen if what != (5, 1, 0)][:4] == [(1, 4, 7), "test", (5, 4, 7), "test"]


def test_the_ensemble_is_of_the_frames_themselves_and_the_learnt_scale(tmp_path, monkeypatch):
    from lightning_modules.clip_fsar import evaluation

    seen, own = [], evaluation.ensemble
    monkeypatch.setattr(evaluation, "ensemble", lambda *x: seen.append(x) or own(*x))
    module = module_of(tmp_path).eval()
    module.scale.data.fill_(3.0)
    frames, labels, names = alike()
    drawn = data().episodes(labels, 1, 4, 0)
    accuracies(
        module.episode_networks,
        bank_of(module.episode_networks, frames, names),
        on_device(drawn, torch.arange(4), "cpu"),
        0.7,
    )
    ((text, distances, length, share),) = seen
    assert (length, share) == (8, 0.7)
    for e in range(4):
        for q, place in enumerate(drawn.query[e].flatten()):
            cosines = torch.cosine_similarity(frames[place].mean(dim=0), names[drawn.classes[e]], dim=-1)
            assert torch.allclose(text[e, q], 3 * cosines, atol=1e-4)
            query = predict_episodes(
                module.episode_networks,
                frames[drawn.support[e]][None],
                frames[place][None, None],
                names[drawn.classes[e]][None],
            )
            assert torch.allclose(distances[e, q], query.distances[0, 0], atol=1e-4)


def test_no_clips_have_no_features(tmp_path):
    # A process's share of a small last batch.
    assert module_of(tmp_path)(torch.zeros(0, 8, 3, 16, 16)).shape == (0, 8, 32)


def test_golden_losses(tmp_path):
    module = module_of(tmp_path)
    batch, base = episode(2)
    optimizer, found = build_adam(module.named_parameters(), {**module.hparams.optimizer, "lr": 1e-3}), []
    for _ in range(5):
        loss = module._loss(module.losses(batch, base))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert found == pytest.approx(GOLDEN, rel=1e-3)


# Evaluation.


def alike(classes=6, clips=8, seed=0):
    """Return features in which clips of a class are alike, their labels, and names that are like them."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, 1, 32, generator=generator)
    labels = np.arange(classes * clips) % classes
    return centres[labels] + 0.1 * torch.randn(len(labels), 8, 32, generator=generator), labels, centres[:, 0]


def test_accuracies_of_episodes(tmp_path):
    module = module_of(tmp_path, context={"depth": 0, "text_modulation": False}, video_text={"weight": 1.0}).eval()
    frames, labels, names = alike()
    episodes = on_device(data().episodes(labels, 1, 20, 3), torch.arange(20), torch.device("cpu"))
    found = accuracies(module.episode_networks, bank_of(module.episode_networks, frames, names), episodes, 0.9)
    assert {name: value.shape for name, value in found.items()} == dict.fromkeys(
        ("acc", "zero_shot", "ensemble"), (20,)
    )
    assert all((value == 100).all() for value in found.values())
    wrong = accuracies(
        module.episode_networks, bank_of(module.episode_networks, frames, names.roll(1, dims=0)), episodes, 0.9
    )
    assert wrong["zero_shot"].mean() < 50
    assert set(accuracies(module.episode_networks, bank_of(module.episode_networks, frames, None), episodes, 0.9)) == {
        "acc"
    }


def test_episodes_from_the_bank_are_those_of_their_clips(tmp_path):
    module = module_of(tmp_path).eval()
    frames, labels, names = alike()
    frames = frames + 6 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))
    episodes = on_device(data().episodes(labels, 5, 20, 3), torch.arange(20), torch.device("cpu"))
    found = accuracies(module.episode_networks, bank_of(module.episode_networks, frames, names), episodes, 0.9)
    queries, chosen, truth = frames[episodes.query.flatten(1)], names[episodes.classes], torch.arange(5)
    for name, told in (("acc", chosen), ("permuted", chosen.roll(1, dims=1))):
        distances = predict_episodes(module.episode_networks, frames[episodes.support], queries, told).distances
        expected = 100 * (distances.argmin(dim=-1) == truth).float().mean(dim=1)
        assert torch.equal(found[name], expected)
    assert 20 < found["acc"].mean() < 100


def test_the_interval_is_of_the_mean_over_episodes():
    # §2.9.
    values = torch.tensor([0.0, 100.0, 50.0, 50.0])
    assert interval(values) == pytest.approx(1.96 * np.std([0, 100, 50, 50]) / 2)


# Towers.


def test_names_need_trained_towers_and_a_block(tmp_path):
    for changes, words in (
        ({}, "weights is null"),
        ({"context": {"depth": 0}, "towers": {"weights": "x"}}, "depth is 0"),
    ):
        with pytest.raises(UserError, match=words):
            CLIPFSAR(**options(**changes))


# Pictures.


def test_the_soft_path_follows_the_nearest_frames():
    off = torch.full((8, 8), 2.0)
    off.fill_diagonal_(0)
    share = soft_path(off, 0.1)
    assert torch.allclose(share, torch.eye(8), atol=0.05)
    assert share.min() >= 0
    image = torch.rand(8, 3, 4, 6)
    assert torch.equal(strip(image)[:, 6:12], ((image[1] - image.min()) / (image.max() - image.min())).permute(1, 2, 0))
