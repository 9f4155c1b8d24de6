"""The LightningModule: what learns, who reads which names, what a checkpoint holds, and evaluation on episodes."""

import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from lightning_modules.clip_fsar.evaluation import Bank, accuracies, interval, look, on_device
from lightning_modules.clip_fsar.mini_clip import soft_contrastive
from lightning_modules.clip_fsar.module import CLIPFSAR
from lightning_modules.clip_fsar.schedule import build_adam, learning_rate
from lightning_modules.clip_fsar.towers import TowerError, build_clip, load_clip, text_features, tokens
from tests.clip_fsar.build import VALUES, data, module_of, options, plain, weights

K100 = {"warmup": 1000, "warmup_lr": 5e-6, "drops": [3000, 5000], "factor": 0.1}


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
    # Trap 1.
    module = module_of(tmp_path).eval()
    batch, base = episode()
    frames = module(batch["image"])
    support, queries = frames[:, :5].unflatten(1, (5, 1)), frames[:, 5:]
    names = base[batch["class"]]
    one = look(module, support, queries, names)
    other = look(module, support, queries, names.roll(1, dims=1))
    assert torch.equal(one.queries, other.queries)
    assert not torch.allclose(one.prototypes, other.prototypes, atol=1e-3)


def test_clips_are_told_from_all_base_classes(tmp_path, monkeypatch):
    # Trap 5.
    from lightning_modules.clip_fsar import module as file

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
    # Trap 6.
    module = module_of(tmp_path)
    batch, base = episode()
    module.losses(batch, base)["video_text"].backward()
    assert module.scale == 1
    assert module.scale.grad != 0
    assert any(
        parameter is module.scale
        for group in build_adam(module, module.hparams.optimizer).param_groups
        for parameter in group["params"]
    )


def test_one_transformer_serves_both(tmp_path):
    # Trap 3.
    names = [name for name in module_of(tmp_path).state_dict() if "attention.query" in name]
    assert names == ["context.0.attention.query.weight"]


def test_the_text_tower_is_neither_trained_nor_kept(tmp_path):
    # Trap 8.
    module = module_of(tmp_path)
    assert {name.split(".")[0] for name in module.state_dict()} == {"visual", "context", "scale"}
    trained = {id(p) for group in build_adam(module, module.hparams.optimizer).param_groups for p in group["params"]}
    assert trained == {id(p) for p in module.parameters()}


def test_a_checkpoint_tells_other_classes_apart(tmp_path):
    # Trap 8: names of other classes are read when they are asked for.
    module = module_of(tmp_path, evaluation={"episodes": 10, "validation_episodes": 5, "shots": [1]})
    fit = trainer(tmp_path, limit_train_batches=2)
    fit.fit(module, datamodule=data())
    fit.save_checkpoint(tmp_path / "one.ckpt")
    content = torch.load(tmp_path / "one.ckpt", weights_only=True)
    assert len(content["names"]) == 48
    (tmp_path / "mini.ckpt").rename(tmp_path / "moved.ckpt")
    again = CLIPFSAR.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    found = trainer(tmp_path).test(again, datamodule=data(), verbose=False)[0]
    assert found["test/acc_1shot"] > 0
    (tmp_path / "moved.ckpt").rename(tmp_path / "mini.ckpt")

    class Others(type(data())):
        def class_names(self, split):
            return [f"a {name}" for name in super().class_names(split)]

    other = Others(image_size=16, train_clips=8, eval_clips=8)
    assert trainer(tmp_path).test(again, datamodule=other, verbose=False)[0]["test/zero_shot_1shot"] > 0


def test_an_episode_knows_nothing_of_the_next(tmp_path):
    # Trap 13.
    module = module_of(tmp_path).eval()
    batch, base = episode(2)
    both = module(batch["image"])
    assert torch.allclose(both[1], module(batch["image"][1:])[0], atol=1e-5)
    two = module.losses(batch, base)["few_shot"]
    each = [module.losses({k: v[i : i + 1] for k, v in batch.items()}, base)["few_shot"] for i in range(2)]
    assert torch.allclose(two, torch.stack(each).mean(), atol=1e-5)


def test_order_of_frames_counts(tmp_path):
    # Trap 4.
    module = module_of(tmp_path).eval()
    batch, base = episode()
    frames = module(batch["image"])
    support, queries, names = frames[:, :5].unflatten(1, (5, 1)), frames[:, 5:], base[batch["class"]]
    one, other = (look(module, support, x, names) for x in (queries, queries.flip(2)))
    assert not torch.allclose(one.distances, other.distances, atol=1e-4)
    assert torch.allclose(one.text_logits, other.text_logits, atol=1e-5)


def test_five_shot_tests_train_with_one_shot():
    # Trap 9.
    conf = plain("clip_fsar")
    assert conf["evaluation"]["shots"] == [1, 5]
    assert conf["context"]["merge_before"] is True
    for name in ("hmdb51", "ucf101", "k100", "ssv2_full", "ssv2_small", "actors"):
        from omegaconf import OmegaConf

        assert OmegaConf.load(f"conf/data/{name}.yaml").shots == 1


def test_the_schedule_is_the_released_loops():
    # Section 2.3, in iterations of 4 processes: 250, 750 and 1250 of K100.
    rates = [learning_rate(4 * i, 1e-5, K100) for i in (0, 125, 250, 749, 750, 1249, 1250, 4999)]
    assert rates == pytest.approx([5e-6, 7.5e-6, 1e-5, 1e-5, 1e-6, 1e-6, 1e-7, 1e-7])
    assert learning_rate(0, 1e-3, {"warmup": 0, "warmup_lr": 0.0, "drops": [], "factor": 0.1}) == 1e-3


def test_norms_do_not_decay(tmp_path):
    module = module_of(tmp_path)
    decayed, plain_group = build_adam(module, module.hparams.optimizer).param_groups
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    assert decayed["weight_decay"] == 5e-5
    assert plain_group["weight_decay"] == 0
    assert {names[id(p)] for p in plain_group["params"]} >= {"context.0.attention.norm.weight"}
    assert not any("norm" in names[id(p)] or "bn" in names[id(p)] for p in decayed["params"])


def test_frozen_without_a_block_has_nothing_to_train(tmp_path):
    module = module_of(tmp_path, frozen=True, context={"depth": 0, "reads_names": False}, video_text={"weight": 0})
    assert not module.has_training
    assert not module.trained_parameters()
    frames = module(episode()[0]["image"])
    told = look(module, frames[:, :5].unflatten(1, (5, 1)), frames[:, 5:], None)
    assert torch.equal(told.queries, frames[:, 5:])


def test_golden_losses(tmp_path):
    module = module_of(tmp_path)
    batch, base = episode(2)
    optimizer, found = build_adam(module, {**module.hparams.optimizer, "lr": 1e-3}), []
    for _ in range(5):
        losses = module.losses(batch, base)
        loss = losses["few_shot"] + 1.5 * losses["video_text"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert all(math.isfinite(value) for value in found)
    assert found[-1] < found[0]


# Evaluation.


def bank_of(classes=6, clips=8, seed=0):
    """Return features in which clips of a class are alike, their labels, and names that are like them."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, 1, 32, generator=generator)
    labels = np.arange(classes * clips) % classes
    frames = centres[labels] + 0.1 * torch.randn(len(labels), 8, 32, generator=generator)
    return Bank(frames, centres[:, 0]), labels


def test_accuracies_of_episodes(tmp_path):
    module = module_of(tmp_path, context={"depth": 0, "reads_names": False}, video_text={"weight": 1.0}).eval()
    bank, labels = bank_of()
    drawn = data().episodes(labels, 1, 20, 3)
    found = accuracies(module, bank, on_device(drawn, torch.arange(20), torch.device("cpu")), 0.9)
    assert {name: value.shape for name, value in found.items()} == dict.fromkeys(
        ("acc", "zero_shot", "ensemble"), (20,)
    )
    assert all((value == 100).all() for value in found.values())
    wrong = Bank(bank.frames, bank.names.roll(1, dims=0))
    assert (
        accuracies(module, wrong, on_device(drawn, torch.arange(20), torch.device("cpu")), 0.9)["zero_shot"].mean() < 50
    )
    nameless = accuracies(module, Bank(bank.frames, None), on_device(drawn, torch.arange(2), torch.device("cpu")), 0.9)
    assert set(nameless) == {"acc"}


def test_the_interval_is_of_the_mean_over_episodes():
    # Trap 14.
    values = torch.tensor([0.0, 100.0, 50.0, 50.0])
    assert interval(values) == pytest.approx(1.96 * np.std([0, 100, 50, 50]) / 2)


# Towers.


def test_words_that_the_mini_clip_does_not_know_are_told():
    mini = options()["mini"]
    ids = tokens("mini", mini, ["a photo of red disc", "growing"])
    assert ids.shape == (2, 12)
    assert ids.argmax(dim=1).tolist() == [5, 1]
    with pytest.raises(TowerError, match="knows no 'purple'"):
        tokens("mini", mini, ["a purple disc"])
    with pytest.raises(TowerError, match="has 12 words, the mini-CLIP reads 11"):
        tokens("mini", mini, ["a " * 12])


def test_other_towers_and_missing_files_are_told(tmp_path):
    mini, clip = options()["mini"], build_clip("mini", options()["mini"], 16)
    with pytest.raises(TowerError, match="no model 'RN5O'"):
        build_clip("RN5O", mini, 16)
    with pytest.raises(TowerError, match="no file"):
        load_clip(clip, "mini", str(tmp_path / "none.pt"))
    torch.save({"state_dict": {"clip.visual.proj": torch.zeros(2)}}, tmp_path / "other.ckpt")
    with pytest.raises(TowerError, match="does not fit"):
        load_clip(clip, "mini", str(tmp_path / "other.ckpt"))
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    with pytest.raises(TowerError, match="does not fit"):
        load_clip(clip, "mini", str(tmp_path / "bad.pt"))
    for changes, words in (
        ({}, "weights is null"),
        ({"context": {"depth": 0}, "towers": {"weights": "x"}}, "depth is 0"),
    ):
        with pytest.raises(TowerError, match=words):
            CLIPFSAR(**options(**changes))


def test_text_features_are_as_the_tower_gives_them(tmp_path):
    clip = build_clip("mini", options()["mini"], VALUES["image_size"])
    load_clip(clip, "mini", weights(tmp_path))
    found = text_features(clip, "mini", options()["mini"], ["a red disc", "a blue disc"])
    assert found.shape == (2, 32)
    assert not torch.allclose(found.norm(dim=-1), torch.ones(2), atol=0.05)


def test_repeated_captions_share_their_target():
    images, texts = torch.randn(4, 8), torch.randn(4, 8)
    texts[1] = texts[0]
    same = torch.eye(4)
    same[0, 1] = same[1, 0] = 1
    found = soft_contrastive(images, texts, same, torch.tensor(3.0))
    logits = 3 * torch.nn.functional.cosine_similarity(images[:, None], texts[None], dim=-1)
    one, other = -logits.log_softmax(1), -logits.log_softmax(0)
    rows = [(one[0, 0] + one[0, 1]) / 2, (one[1, 0] + one[1, 1]) / 2, one[2, 2], one[3, 3]]
    columns = [(other[0, 0] + other[1, 0]) / 2, (other[0, 1] + other[1, 1]) / 2, other[2, 2], other[3, 3]]
    assert torch.allclose(found, (sum(rows) / 4 + sum(columns) / 4) / 2, atol=1e-5)
